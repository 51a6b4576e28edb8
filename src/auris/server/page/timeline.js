// Sound and words along the time: what is in view is drawn.

import { Painter, SCALE, TILE } from "./drawing.js";
import { perFrame } from "./frame.js";
import * as overview from "./overview.js";
import * as player from "./player.js";
import { Words } from "./words.js";

const scroller = document.getElementById("scroller");
const track = document.getElementById("track");
const canvas = document.getElementById("drawing");
const marked = document.getElementById("marked");
const playhead = document.getElementById("playhead");
const [closer, wider] = ["zoom-in", "zoom-out"].map((id) => document.getElementById(id));

const COMFORT = 110;
const WIDEST = 60;
const CLOSEST = 1000;

let painter = null;
let seconds = 0;
let scale = COMFORT;
let growing = false;
const redraw = perFrame(draw);

const words = new Words(
  document.getElementById("words"),
  (word) => player.playFrom(word.start),
  (word) => mark(word),
);

/** Begin anew: nothing to see. */
export function clear() {
  [painter, seconds, growing] = [null, 0, false];
  words.set([]);
  overview.clear();
  mark(null);
  playhead.hidden = true;
  layOut(COMFORT);
}

/** Draw a sound: {samples, rate}, which may grow while `live`. */
export function setSound(sound, length, live = false) {
  const same = painter !== null && length === seconds && !live;
  [seconds, growing] = [length, live];
  playhead.hidden = live;
  painter = new Painter(sound, scale);
  // The reader may have moved the view while the sound was decoded.
  layOut(same ? scale : live ? COMFORT : Math.max(COMFORT, fitting()));
  if (!live) overview.setSound(length, sound);
}

/** Show the time scale of a recording that cannot be drawn. */
export function setLength(length) {
  setSound(null, length);
}

/** Follow a sound that has grown. */
export function grown(length) {
  const [widthBefore, gap] = [scroller.clientWidth, scroller.scrollWidth - scroller.scrollLeft];
  seconds = length;
  widen();
  // Who has scrolled back to look is left in peace.
  if (gap - widthBefore < 160) scroller.scrollLeft = scroller.scrollWidth;
  redraw();
}

/** Show words under the sound: [{word, start, end, provisional}]. */
export function setWords(list) {
  words.set(list);
  overview.setWords(list);
  redraw();
}

/** The scale at which everything is in view; what still grows never is for long. */
function fitting() {
  return seconds > 0 && !growing ? scroller.clientWidth / seconds : COMFORT;
}

function layOut(target) {
  const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / scale;
  scale = Math.min(CLOSEST, target);
  if (painter) painter = new Painter(painter.sound, scale);
  words.layOut(scale);
  widen();
  scroller.scrollLeft = middle * scale - scroller.clientWidth / 2;
  closer.disabled = scale >= CLOSEST;
  wider.disabled = scale <= Math.max(WIDEST, Math.min(CLOSEST, fitting())) + 1e-6;
  redraw();
}

function widen() {
  // The last word may reach beyond the sound.
  const last = words.list.at(-1);
  const beyond = last ? last.left + 16 + 12 * last.word.length : 0;
  track.style.width = `${Math.max(seconds * scale, beyond, scroller.clientWidth)}px`;
}

function draw() {
  const [left, width] = [scroller.scrollLeft, scroller.clientWidth];
  const sharpness = painter?.sharpness ?? 1;
  canvas.hidden = painter === null;
  if (painter && width > 0) {
    const { height } = painter;
    if (canvas.width !== Math.round(width * sharpness) || canvas.height !== height * sharpness) {
      [canvas.width, canvas.height] = [Math.round(width * sharpness), height * sharpness];
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const to = canvas.getContext("2d", { alpha: false });
    for (let index = Math.floor(left / TILE); index * TILE < left + width; index++) {
      to.drawImage(painter.tile(index), Math.round((index * TILE - left) * sharpness), 0);
    }
  }
  words.show(left, left + width);
  overview.showView(left / scale, (left + width) / scale);
}

function mark(word) {
  marked.hidden = word === null;
  if (word === null) return;
  marked.style.transform = `translateX(${word.start * scale}px)`;
  marked.style.width = `${Math.max(3, (word.end - word.start) * scale)}px`;
  marked.style.height = `${(painter?.height ?? SCALE) - SCALE}px`;
}

function showTime(now, { running, sought }) {
  const x = now * scale;
  playhead.style.transform = `translateX(${x}px)`;
  words.showTime(running || sought || now > 0 ? now : -1);
  const [left, width] = [scroller.scrollLeft, scroller.clientWidth];
  const visible = x >= left && x <= left + width - 40;
  // At the end, the view cannot move further to the right.
  if ((running || sought) && !visible) scroller.scrollLeft = x - 40;
}

player.onTime(showTime);
canvas.addEventListener("click", ({ offsetX }) => player.seek((scroller.scrollLeft + offsetX) / scale));
closer.addEventListener("click", () => layOut(scale * 1.5));
wider.addEventListener("click", () => layOut(Math.max(WIDEST, Math.min(CLOSEST, fitting()), scale / 1.5)));
scroller.addEventListener("scroll", redraw, { passive: true });
new ResizeObserver(() => layOut(Math.max(scale, Math.min(CLOSEST, fitting())))).observe(scroller);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => layOut(scale));
