// Playing the recording.

import { clock } from "./clock.js";

const audio = document.getElementById("audio");
const play = document.getElementById("play");
const position = document.getElementById("position");
const time = document.getElementById("time");

/** Seconds that an arrow key moves, the share of the recording that it moves at most, and how many
 * of these steps PageUp moves. */
const STEP = 5;
const STEP_SHARE = 1 / 10;
const PAGE = 6;

const listeners = [];
let address = "";
/** The length that is known without the browser's help. */
let known = 0;
/** The position while there is no sound. */
let silent = 0;

/**
 * Call `listener(seconds, {running, sought})` when the position changes: `running` while sound is
 * played, `sought` where somebody chose the position.
 */
export function onTime(listener) {
  listeners.push(listener);
}

/** Load a recording; resolves to its seconds, or to null where the browser cannot play it. */
export function load(recording) {
  unload();
  address = URL.createObjectURL(recording);
  return new Promise((resolve) => {
    audio.onloadedmetadata = () => {
      play.disabled = false;
      // Browsers give an infinite length where the header has none.
      const seconds = Number.isFinite(audio.duration) ? audio.duration : null;
      if (seconds) setLength(seconds);
      resolve(seconds);
    };
    audio.onerror = () => {
      play.disabled = true;
      show();
      resolve(null);
    };
    audio.src = address;
    show();
  });
}

/** Release the recording. */
export function unload() {
  audio.onerror = null;
  audio.removeAttribute("src");
  audio.load();
  URL.revokeObjectURL(address);
  play.disabled = true;
  [known, silent] = [0, 0];
  show();
}

/** Whether the browser can play the recording. */
export function playable() {
  return !play.disabled;
}

/** Set the length of the recording. */
export function setLength(seconds) {
  known = seconds;
  show();
}

/** Go to a time and play from there. */
export async function playFrom(seconds) {
  seek(seconds);
  if (playable()) await audio.play().catch(() => {});
}

/** Go to a time. */
export function seek(seconds) {
  if (playable()) audio.currentTime = seconds;
  else silent = seconds;
  show({ sought: true });
}

/** The index of the last one of `list` that begins before a time; -1 without one. */
export function lastBefore(list, seconds) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].start <= seconds + 0.01) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function length() {
  return Number.isFinite(audio.duration) ? audio.duration : known;
}

function now() {
  return playable() ? audio.currentTime : silent;
}

function show({ sought = false } = {}) {
  const [seconds, at, running] = [length(), now(), !audio.paused];
  position.disabled = seconds === 0;
  position.max = seconds || 1;
  position.value = at;
  position.setAttribute("aria-valuetext", `${clock(at)} of ${clock(seconds)}`);
  time.textContent = `${clock(at)} / ${clock(seconds)}`;
  play.classList.toggle("playing", running);
  play.setAttribute("aria-label", running ? "Pause" : "Play");
  for (const listener of listeners) listener(at, { running, sought });
}

function tick() {
  show();
  if (!audio.paused) requestAnimationFrame(tick);
}

/** Arrow keys move by seconds, not by the hundredths that the pointer can choose. */
function key(event) {
  const step = Math.min(STEP, length() * STEP_SHARE);
  const by = {
    ArrowRight: step,
    ArrowUp: step,
    ArrowLeft: -step,
    ArrowDown: -step,
    PageUp: PAGE * step,
    PageDown: -PAGE * step,
  }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  seek(Math.max(0, Math.min(length(), now() + by)));
}

for (const event of ["pause", "seeked", "ended", "durationchange"]) {
  audio.addEventListener(event, () => show());
}
audio.addEventListener("play", tick);
play.addEventListener("click", () => (audio.paused ? playFrom(audio.currentTime) : audio.pause()));
position.addEventListener("input", () => seek(Number(position.value)));
position.addEventListener("keydown", key);
