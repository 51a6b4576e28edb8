// The page: its buttons, fields and files, and what they start.

import * as api from "./api.js";
import { PageError } from "./errors.js";
import * as options from "./options.js";
import * as recording from "./recording.js";
import { key } from "./request.js";
import * as speech from "./speech.js";
import * as transcript from "./transcript.js";
import * as ui from "./ui.js";

const [file, speak, stop, again, copy, keyForm, keyField, curtain] = [
  "file",
  "speak",
  "stop",
  "again",
  "copy",
  "key-form",
  "key",
  "curtain",
].map((id) => document.getElementById(id));

/** Ask the server for its models. */
async function connect() {
  try {
    options.offer(await api.models());
    keyForm.hidden = true;
    ui.calm();
  } catch (problem) {
    ui.fail(problem);
  }
}

async function begin() {
  await connect();
  if (options.chosen() && !speech.active()) await recording.restore();
}

async function choose(files) {
  const [given] = files;
  if (!given) return;
  if (speech.active()) await speech.stop(undefined, { finish: false, open: false });
  if (!recording.attach(given)) recording.open(given);
}

async function toggleSpeech() {
  if (speech.active()) {
    await speech.stop();
    return;
  }
  if (!options.chosen()) await connect();
  const requested = options.chosen();
  if (requested) await speech.start(requested);
}

async function copyText() {
  try {
    await navigator.clipboard.writeText(transcript.paragraphs());
    ui.say("Copied.");
  } catch {
    ui.say("The browser does not let this page copy. Select the text instead.");
  }
}

function useKey(event) {
  event.preventDefault();
  const given = keyField.value.trim();
  keyField.value = "";
  if (!key.possible(given)) {
    ui.fail(
      new PageError("This cannot be a key: keys have letters, digits and signs of ASCII, no spaces."),
    );
    return;
  }
  key.set(given);
  begin();
}

/** Take files that are dropped anywhere on the page. */
function takeDrops() {
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
    choose([...event.dataTransfer.files]);
  });
}

file.addEventListener("keydown", (event) => {
  // The label looks like a button, which Enter presses, too.
  if (event.key !== "Enter") return;
  event.preventDefault();
  file.click();
});
file.addEventListener("change", () => {
  choose([...file.files]);
  // The same file can be chosen again.
  file.value = "";
});
speak.addEventListener("click", toggleSpeech);
stop.addEventListener("click", recording.cancel);
again.addEventListener("click", recording.repeat);
copy.addEventListener("click", copyText);
keyForm.addEventListener("submit", useKey);
recording.connectWith(connect);
takeDrops();
begin();
