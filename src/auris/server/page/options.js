// Model, language and expected words: only what the served models can do.

const model = document.getElementById("model");
const language = document.getElementById("language");
const prompt = document.getElementById("prompt");
const promptField = document.getElementById("prompt-field");

const names = new Intl.DisplayNames(["en"], { type: "language" });

let served = [];

/** Offer the served models. */
export function offer(models) {
  served = models;
  model.replaceChildren(...models.map(({ id }) => new Option(id, id)));
  model.onchange = follow;
  follow();
}

/** What is asked for now; null before the models are known. */
export function chosen() {
  const found = current();
  if (!found) return null;
  return {
    model: found.id,
    language: language.value,
    prompt: found.capabilities.prompt ? prompt.value.trim() : "",
    words: found.capabilities.words,
  };
}

/** Choose what a transcription was asked with, as far as it is served. */
export function choose(asked) {
  if (!served.some(({ id }) => id === asked.model)) return;
  model.value = asked.model;
  follow();
  language.value = asked.language;
  prompt.value = asked.prompt;
}

/** The code of a language from its English name. */
export function languageCode(name) {
  const codes = served.flatMap(({ capabilities }) => capabilities.languages);
  return codes.find((code) => names.of(code).toLowerCase() === name.toLowerCase());
}

function current() {
  return served.find(({ id }) => id === model.value);
}

/** Show what the chosen model can be asked. */
function follow() {
  const { languages, prompt: takesPrompt } = current()?.capabilities ?? { languages: [] };
  const before = language.value;
  const known = languages
    .map((code) => new Option(names.of(code), code))
    .sort((one, other) => one.text.localeCompare(other.text));
  // A model of one language has nothing to recognize.
  if (languages.length !== 1) known.unshift(new Option("Detect", ""));
  language.replaceChildren(...known);
  if (languages.includes(before)) language.value = before;
  promptField.hidden = !takesPrompt;
}
