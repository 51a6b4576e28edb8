// The overview of the recording, under the slider of the position.

import { marks } from "./clock.js";
import { colours } from "./colours.js";
import { perFrame } from "./frame.js";

const WAVE = 40;
const SCALE = 18;
const COLUMNS = 2048;

const box = document.getElementById("overview");
const canvas = document.getElementById("overview-drawing");
const view = document.getElementById("overview-view");

let seconds = 0;
/** The peaks of `COLUMNS` parts of the sound; null where the browser cannot read it. */
let peaks = null;
let words = [];
const redraw = perFrame(draw);

/** Begin anew. */
export function clear() {
  [seconds, peaks, words] = [0, null, []];
  showView(0, 0);
  redraw();
}

/** Show a recording of so many seconds; `sound` where the browser can read it. */
export function setSound(length, sound = null) {
  seconds = length;
  peaks = sound && peaksOf(sound.samples);
  redraw();
}

/** Show where words are, as long as there is no sound to show. */
export function setWords(list) {
  words = list;
  if (!peaks) redraw();
}

/** Show which seconds are in view in the timeline. */
export function showView(from, to) {
  const showsAll = seconds === 0 || to - from >= seconds * 0.999;
  view.hidden = showsAll;
  if (showsAll) return;
  view.style.left = `${(100 * from) / seconds}%`;
  view.style.width = `${Math.min(100, (100 * (to - from)) / seconds)}%`;
}

function peaksOf(samples) {
  const largest = new Float32Array(COLUMNS);
  const each = samples.length / COLUMNS;
  for (let column = 0; column < COLUMNS; column++) {
    const end = Math.min(samples.length, Math.ceil((column + 1) * each));
    let most = 0;
    for (let i = Math.floor(column * each); i < end; i++) most = Math.max(most, Math.abs(samples[i]));
    largest[column] = most;
  }
  return largest;
}

function draw() {
  const sharpness = Math.min(window.devicePixelRatio || 1, 2);
  const width = box.clientWidth;
  if (width === 0) return;
  [canvas.width, canvas.height] = [width * sharpness, (WAVE + SCALE) * sharpness];
  const to = canvas.getContext("2d");
  const { css } = colours();
  to.scale(sharpness, sharpness);
  to.fillStyle = css.accent;
  if (peaks) drawPeaks(to, width, sharpness);
  else drawWords(to, width);
  to.fillStyle = css.line;
  to.fillRect(0, WAVE, width, 1);
  if (seconds > 0) drawScale(to, width, css);
}

function drawPeaks(to, width, sharpness) {
  const loudest = peaks.reduce((most, peak) => Math.max(most, peak), 1e-4);
  const step = 1 / sharpness;
  for (let x = 0; x < width; x += step) {
    const first = Math.floor((x / width) * COLUMNS);
    const last = Math.max(first + 1, Math.floor(((x + step) / width) * COLUMNS));
    let peak = 0;
    for (let i = first; i < last && i < COLUMNS; i++) peak = Math.max(peak, peaks[i]);
    const height = Math.max(1, (peak / loudest) * (WAVE - 6));
    to.fillRect(x, (WAVE - height) / 2, step, height);
  }
}

function drawWords(to, width) {
  for (const { start, end } of words) {
    to.fillRect((start / seconds) * width, WAVE / 4, Math.max(1, ((end - start) / seconds) * width), WAVE / 2);
  }
}

function drawScale(to, width, css) {
  to.font = "12px system-ui, sans-serif";
  to.fillStyle = css.soft;
  const pixels = width / seconds;
  for (const { seconds: at, label } of marks(0, seconds, pixels, 84)) {
    const x = Math.round(at * pixels);
    to.fillRect(x, WAVE, 1, 5);
    if (x + to.measureText(label).width + 6 < width) to.fillText(label, x + 4, WAVE + 14);
  }
}

new ResizeObserver(redraw).observe(box);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
