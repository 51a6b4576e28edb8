// Live speech: the microphone, the text as it comes, and the recording that it becomes.

import { RATE, Session } from "./live.js";
import { listen } from "./microphone.js";
import * as options from "./options.js";
import * as recording from "./recording.js";
import { Growing, wav } from "./sound.js";
import * as timeline from "./timeline.js";
import * as transcript from "./transcript.js";
import * as ui from "./ui.js";

const speak = document.getElementById("speak");
const speakLabel = document.getElementById("speak-label");
const sound = document.getElementById("sound");
const soundName = document.getElementById("sound-name");
const soundHint = document.getElementById("sound-hint");
const controls = document.getElementById("player");

/** The live session: {session, spoken, sound, end, replaced}; null without one. */
let current = null;

/** Whether the microphone is open. */
export function active() {
  return current !== null;
}

/** Begin, with the chosen options. */
export async function start(requested) {
  recording.close();
  const mine = (current = { session: null, spoken: 0, sound: new Growing(RATE), end: async () => {} });
  press(true);
  ui.say("Asking for the microphone");
  try {
    mine.end = await listen(
      RATE,
      (samples) => take(mine, samples),
      () => stop(mine),
    );
    if (current !== mine) return await mine.end();
    prepare(mine);
    mine.session = new Session(requested, (shown) => follow(mine, shown), (problem) => lose(mine, problem));
    await mine.session.open;
    ui.say("Listening. Text in italics may still change; grey text is not final yet.");
  } catch (problem) {
    if (current === mine) await lose(mine, problem);
  }
}

/** End; what was recorded is then transcribed once more as a whole. */
export async function stop(mine = current, { finish = true, open = true, problem = null } = {}) {
  if (!mine || current !== mine) return;
  current = null;
  press(false);
  await mine.end();
  ui.say("");
  if (!mine.session) return;
  if (finish) {
    ui.say("Finishing");
    await mine.session.finish();
  } else mine.session.end();
  mine.replaced = true;
  transcript.keepSettled();
  if (!open || mine.sound.length === 0) return;
  await recording.open(wav(mine.sound, `recording-${stamp()}.wav`), {
    quiet: true,
    keepText: transcript.current() !== "",
    problem,
  });
}

function prepare(mine) {
  controls.hidden = true;
  document.body.classList.add("has-recording");
  transcript.clear("Speak now.", { end: true });
  timeline.clear();
  sound.hidden = false;
  soundName.textContent = "Microphone";
  soundHint.textContent = "";
  timeline.setSound(mine.sound, 0, true);
  ui.say("Connecting");
}

function take(mine, samples) {
  if (current !== mine) return;
  mine.sound.add(samples);
  mine.session.send(samples);
  timeline.grown(mine.sound.seconds);
  const level = Math.max(...samples.map(Math.abs), 0);
  speak.style.setProperty("--level", Math.min(1, level * 2).toFixed(2));
}

function follow(mine, { text, spoken, settled, guess, words }) {
  if (mine.replaced) return;
  const before = transcript.current();
  if (spoken) {
    for (const part of spoken.slice(mine.spoken)) transcript.addSpoken(part);
    mine.spoken = spoken.length;
  } else if (text.startsWith(before)) transcript.add(text.slice(before.length));
  else transcript.settle(text);
  transcript.guess(settled, guess);
  timeline.setWords(words);
}

async function lose(mine, problem) {
  ui.fail(problem);
  if (current === mine) await stop(mine, { finish: false, problem });
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
