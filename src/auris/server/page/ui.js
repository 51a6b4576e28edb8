// Errors, states and progress, as the page shows them.

import { clock } from "./clock.js";
import { sentence } from "./errors.js";

const [error, status, detail, progress, stop, title, keyForm, keyField] = [
  "error",
  "status",
  "detail",
  "progress",
  "stop",
  "text-title",
  "key-form",
  "key",
].map((id) => document.getElementById(id));

const STATES = {
  sending: "Sending the recording",
  waiting: "Waiting for the server",
  reading: "The server reads the recording",
  unreachable: "The server cannot be reached; trying again",
  transcribing: "Transcribing",
};

/** Show an error. */
export function fail(problem) {
  error.textContent = sentence(problem);
  error.hidden = false;
  if (problem.needsKey) {
    keyForm.hidden = false;
    keyField.focus();
  }
}

/** Remove the error. */
export function calm() {
  error.hidden = true;
  error.textContent = "";
}

/** Show what the page does now; screen readers read it aloud. */
export function say(sentence) {
  if (status.textContent !== sentence) status.textContent = sentence;
  detail.textContent = "";
}

/** Show a state of a transcription: see `transcribe`. */
export function showState({ state, share, done, total }) {
  say(STATES[state]);
  progress.hidden = stop.hidden = false;
  const known = state === "sending" ? share : state === "transcribing" && total ? done / total : null;
  if (known === null) progress.removeAttribute("value");
  else progress.value = Math.min(1, known);
  progress.setAttribute("aria-label", STATES[state]);
  // Figures that change all the time are not read aloud.
  if (state === "sending") detail.textContent = `${Math.floor(share * 100)} %`;
  if (state === "transcribing") {
    detail.textContent = total ? `${clock(done)} of ${clock(total)}` : clock(done);
  }
}

/** Nothing is under way any more. */
export function idle() {
  progress.hidden = true;
  detail.textContent = "";
  // Focus must not vanish with the button.
  if (document.activeElement === stop) title.focus();
  stop.hidden = true;
}
