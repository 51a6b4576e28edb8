// The speakers of a recording: their names, their colours, and the fields that rename them.

const COLOURS = 8;

const box = document.getElementById("speakers-box");
const list = document.getElementById("speakers-list");

/** Names by the label of the server, in the order in which speakers begin to speak. */
let names = new Map();
let renamed = () => {};

/** Call a function when a speaker has another name. */
export function onRename(call) {
  renamed = call;
}

/** Forget all speakers. */
export function clear() {
  names = new Map();
  list.replaceChildren();
  box.hidden = true;
}

/** The element with the name of a speaker, in the speaker's colour. */
export function nameOf(label) {
  if (!names.has(label)) add(label);
  const element = document.createElement("span");
  element.className = `speaker speaker-${[...names.keys()].indexOf(label) % COLOURS}`;
  element.dataset.speaker = label;
  element.textContent = names.get(label);
  return element;
}

/** Formats of a transcript with the names that were given to its speakers. */
export function withNames(formats) {
  if (![...names].some(([label, name]) => label !== name)) return formats;
  const { srt, vtt, text, verbose_json: json } = formats;
  const segments = json.segments?.map((one) =>
    one.speaker ? { ...one, speaker: names.get(one.speaker) ?? one.speaker } : one,
  );
  return {
    srt: srt.replace(/( --> .*\n)(.*?): /g, (all, times, label) =>
      names.has(label) ? `${times}${srtName(names.get(label))}: ` : all,
    ),
    vtt: vtt.replace(/<v (.*?)>/g, (all, label) =>
      names.has(label) ? `<v ${vttName(names.get(label))}>` : all,
    ),
    text: text.replace(/^(.*?): /gm, (all, label) =>
      names.has(label) ? `${names.get(label)}: ` : all,
    ),
    verbose_json: segments ? { ...json, segments } : json,
  };
}

/** Give each segment the words of its time; those of a whole transcript are in one list. */
export function withWords({ segments, words = [] }) {
  let next = 0;
  return segments.map((segment) => {
    const first = next;
    while (next < words.length && words[next].end <= segment.end + 0.001) next++;
    return { ...segment, words: words.slice(first, next) };
  });
}

// As the server writes names in these formats, which have no escapes or their own.
function srtName(name) {
  return name
    .replace(/-{2,}>/g, "->")
    .replace(/<(?=[/a-zA-Z!])/g, "‹")
    .replace(/\\/g, "∖")
    .replace(/\{/g, "(")
    .replace(/\}/g, ")");
}

function vttName(name) {
  return name.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function add(label) {
  names.set(label, label);
  const field = document.createElement("input");
  field.type = "text";
  field.maxLength = 60;
  field.autocomplete = "off";
  field.spellcheck = false;
  field.value = label;
  field.className = `speaker-${(names.size - 1) % COLOURS}`;
  field.setAttribute("aria-label", `Name of speaker ${label}`);
  field.addEventListener("change", () => rename(label, field));
  const item = document.createElement("li");
  item.append(field);
  list.append(item);
  box.hidden = false;
}

function rename(label, field) {
  const name = field.value.trim().replace(/\s+/g, " ") || label;
  field.value = name;
  names.set(label, name);
  for (const element of document.querySelectorAll("#stable .speaker")) {
    if (element.dataset.speaker === label) element.textContent = name;
  }
  renamed();
}
