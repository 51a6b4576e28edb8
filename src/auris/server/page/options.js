// Model, language and expected words: only what the served models can do.

const modelField = document.getElementById("model");
const language = document.getElementById("language");
const keywords = document.getElementById("keywords");

const speakers = document.getElementById("speakers");
const speakersField = document.getElementById("speakers-field");

const names = new Intl.DisplayNames(["en"], { type: "language" });

let served = [];

/** Offer the served models. */
export function offer(models) {
  served = models;
  modelField.replaceChildren(...models.map(({ id }) => new Option(id, id)));
  modelField.onchange = follow;
  follow();
}

/** The model and the options that are chosen; null before the models are known. */
export function chosen() {
  const model = current();
  if (!model) return null;
  return {
    model: model.id,
    language: language.value,
    keywords: listed(keywords.value),
    words: model.capabilities.words,
    speakers: model.capabilities.speakers ? speakers.value : "",
  };
}

/** Choose the options of an earlier transcription, if its model is served. */
export function choose(requested) {
  if (!served.some(({ id }) => id === requested.model)) return;
  modelField.value = requested.model;
  follow();
  language.value = requested.language;
  keywords.value = (requested.keywords ?? []).join(", ");
  speakers.value = requested.speakers ?? "";
}

/** The code of a language from its English name. */
export function languageCode(name) {
  const codes = served.flatMap(({ capabilities }) => capabilities.languages);
  return codes.find((code) => names.of(code).toLowerCase() === name.toLowerCase());
}

/** The words and phrases of a list with commas. */
function listed(text) {
  return text.split(",").map((word) => word.trim()).filter(Boolean);
}

function current() {
  return served.find(({ id }) => id === modelField.value);
}

/** Show the options that the chosen model has. */
function follow() {
  const capabilities = current()?.capabilities ?? { languages: [] };
  const { languages } = capabilities;
  const before = language.value;
  const known = languages
    .map((code) => new Option(names.of(code), code))
    .sort((one, other) => one.text.localeCompare(other.text));
  // A model of one language has nothing to recognize.
  if (languages.length !== 1) known.unshift(new Option("Detect", ""));
  language.replaceChildren(...known);
  if (languages.includes(before)) language.value = before;
  speakersField.hidden = !capabilities.speakers;
}
