// The page: what happens when a recording comes, or somebody speaks.

import * as api from "./api.js";
import * as downloads from "./downloads.js";
import { Told, inWords } from "./errors.js";
import { RATE, Session } from "./live.js";
import { listen } from "./microphone.js";
import * as options from "./options.js";
import * as player from "./player.js";
import { Growing, decoded, wav } from "./sound.js";
import * as timeline from "./timeline.js";
import * as transcript from "./transcript.js";

const [error, status, stop, progress, results, sound, soundName, soundHint] = [
  "error",
  "status",
  "stop",
  "progress",
  "results",
  "sound",
  "sound-name",
  "sound-hint",
].map((id) => document.getElementById(id));
const file = document.getElementById("file");
const speak = document.getElementById("speak");
const speakLabel = document.getElementById("speak-label");
const keyForm = document.getElementById("key-form");
const keyField = document.getElementById("key");
const controls = document.getElementById("player");
const curtain = document.getElementById("curtain");

/** The recording that is shown, {file, quiet}. */
let recording = null;
/** Ends what is under way. */
let running = null;
/** The live session: {session, heard, end}. */
let speech = null;

function fail(problem) {
  error.textContent = inWords(problem);
  error.hidden = false;
  if (problem.needsKey) askKey();
}

function calm() {
  error.hidden = true;
  error.textContent = "";
}

function askKey() {
  keyForm.hidden = false;
  keyField.focus();
}

async function begin() {
  try {
    options.offer(await api.models());
    keyForm.hidden = true;
    calm();
  } catch (problem) {
    fail(problem);
  }
}

/** Show a recording and have it recognized. */
async function open(given, { quiet = false, keepText = false } = {}) {
  controls.hidden = false;
  recording = { file: given, quiet };
  timeline.clear();
  sound.hidden = false;
  soundName.textContent = given.name;
  soundHint.textContent = "";
  const length = player.load(given).then((seconds) => show(given, seconds));
  await recognize(length, keepText);
}

/** Draw a recording, as far as the browser can; resolves to its seconds, or null. */
async function show(given, seconds) {
  const found = await decoded(given, seconds ?? 0);
  if (recording?.file !== given) return null;
  const length = seconds ?? (found && found.samples.length / found.rate);
  if (found) timeline.setSound(found, length);
  else if (length) timeline.setLength(length);
  if (!found) {
    soundHint.textContent = length
      ? "This recording is too long, or of a kind that this browser cannot draw."
      : "This browser cannot play recordings of this kind; its text comes all the same.";
  }
  return length;
}

async function recognize(length, keepText = false) {
  running?.abort();
  const mine = (running = new AbortController());
  if (!options.chosen()) await begin();
  const asked = options.chosen();
  if (!asked) {
    // With a key, or when the server is back, it can be recognized after all.
    if (running === mine) running = null;
    results.hidden = false;
    return;
  }
  calm();
  downloads.clear();
  results.hidden = true;
  if (!keepText) transcript.clear("Listening…");
  busy("Sending…");
  const fraction = { total: null };
  length.then((seconds) => (fraction.total = seconds));
  try {
    const events = api.transcription(
      recording.file,
      { ...asked, quiet: recording.quiet },
      mine.signal,
    );
    const words = [];
    for await (const event of events) {
      take(event, words, fraction.total, keepText);
    }
    // Words need the sound's length to be placed for good.
    await length;
    if (running === mine) timeline.setWords(words);
  } catch (problem) {
    if (running !== mine) return;
    const cancelled = problem.name === "AbortError";
    status.textContent = cancelled ? "Cancelled." : "";
    if (!cancelled && !keepText) transcript.clear("");
    results.hidden = cancelled && !keepText;
    if (!cancelled) fail(problem);
  }
  if (running === mine) idle();
}

function take(event, words, total, keepText) {
  switch (event.type) {
    case "transcript.text.delta":
      if (!keepText) transcript.add(event.delta);
      break;
    case "auris.transcript.segment":
      words.push(...(event.segment.words ?? []));
      timeline.setWords([...words]);
      far(event.segment.end, total);
      break;
    case "auris.transcript.formats":
      downloads.offer(event.formats, recording.file.name);
      break;
    case "transcript.text.done":
      transcript.settle(event.text, event.languages?.[0]?.code);
      results.hidden = false;
      status.textContent = "Done.";
      break;
  }
}

function far(seconds, total) {
  if (total) progress.value = Math.min(1, seconds / total);
  const of = total ? ` of ${player.clock(total)}` : "";
  status.textContent = `Recognized ${player.clock(seconds)}${of}`;
}

function busy(what) {
  status.textContent = what;
  progress.removeAttribute("value");
  progress.hidden = false;
  stop.hidden = false;
}

function idle() {
  running = null;
  progress.hidden = true;
  // Focus must not vanish with the button.
  if (document.activeElement === stop) document.getElementById("text-title").focus();
  stop.hidden = true;
}

async function startSpeaking() {
  if (!options.chosen()) await begin();
  const asked = options.chosen();
  if (!asked) return;
  running?.abort();
  idle();
  calm();
  const mine = (speech = { session: null, heard: new Growing(RATE), end: async () => {} });
  press(true);
  status.textContent = "Asking for the microphone…";
  try {
    mine.end = await listen(
      RATE,
      (samples) => hear(mine, samples),
      () => stopSpeaking(mine),
    );
    if (speech !== mine) return await mine.end();
    prepare(mine);
    mine.session = new Session(asked, (shown) => follow(mine, shown), (problem) => lost(mine, problem));
    await mine.session.open;
    status.textContent = "Listening. Text in italics may still change.";
  } catch (problem) {
    if (speech === mine) await lost(mine, problem);
  }
}

function prepare(mine) {
  recording = null;
  player.unload();
  controls.hidden = true;
  downloads.clear();
  results.hidden = true;
  transcript.clear("Speak now.");
  timeline.clear();
  sound.hidden = false;
  soundName.textContent = "Microphone";
  soundHint.textContent = "";
  timeline.setSound(mine.heard, 0, true);
  status.textContent = "Connecting…";
}

function hear(mine, samples) {
  if (speech !== mine) return;
  mine.heard.add(samples);
  mine.session.send(samples);
  timeline.grown(mine.heard.seconds);
  const level = Math.max(...samples.map(Math.abs), 0);
  speak.style.setProperty("--level", Math.min(1, level * 2).toFixed(2));
}

function follow(mine, { text, guess, words }) {
  if (mine.replaced) return;
  const before = transcript.current();
  if (text.startsWith(before)) transcript.add(text.slice(before.length));
  else transcript.settle(text);
  transcript.guess(guess);
  timeline.setWords(words);
}

async function lost(mine, problem) {
  if (speech === mine) await stopSpeaking(mine, false);
  fail(problem);
}

/** End live speech; what was heard is then recognized once more as a whole. */
async function stopSpeaking(mine = speech, finish = true) {
  if (!mine || speech !== mine) return;
  speech = null;
  press(false);
  await mine.end();
  status.textContent = "";
  if (!mine.session) return;
  if (finish) {
    status.textContent = "Finishing…";
    await mine.session.finish();
  } else mine.session.end();
  mine.replaced = true;
  transcript.guess("");
  if (mine.heard.length === 0) return;
  await open(wav(mine.heard, `recording-${stamp()}.wav`), {
    quiet: true,
    keepText: transcript.current() !== "",
  });
}

function press(on) {
  speak.setAttribute("aria-pressed", String(on));
  speakLabel.textContent = on ? "Stop" : "Speak";
}

function stamp() {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19).replace(/[T:]/g, "-");
}

async function choose(files) {
  if (!files?.length) return;
  if (speech) await stopSpeaking(speech, false);
  open(files[0]);
}

file.addEventListener("keydown", (event) => {
  // The label looks like a button, which Enter presses, too.
  if (event.key !== "Enter") return;
  event.preventDefault();
  file.click();
});
file.addEventListener("change", async () => {
  await choose([...file.files]);
  // The same file can be chosen again.
  file.value = "";
});
speak.addEventListener("click", () => (speech ? stopSpeaking() : startSpeaking()));
stop.addEventListener("click", () => running?.abort());
document.getElementById("again").addEventListener("click", () => {
  if (!recording) return;
  // A text stays until there is another: the server may be full, or gone.
  open(recording.file, { quiet: recording.quiet, keepText: transcript.current() !== "" });
});
document.getElementById("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(transcript.current());
    status.textContent = "Copied.";
  } catch {
    status.textContent = "The browser does not let this page copy; select the text instead.";
  }
});
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = keyField.value.trim();
  keyField.value = "";
  if (!api.key.possible(given)) {
    fail(new Told("No key looks like this: keys have letters, digits and signs of ASCII, no spaces."));
    return;
  }
  api.key.set(given);
  begin();
});

let inside = 0;
for (const [kind, change] of [["dragenter", 1], ["dragleave", -1]]) {
  addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    inside += change;
    curtain.hidden = inside <= 0;
  });
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  curtain.hidden = true;
  choose(event.dataTransfer.files);
});

begin();
