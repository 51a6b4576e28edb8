// The words under the waveform: one stop of the tab key, arrow keys within.

import { lastBefore } from "./player.js";

const ROWS = 3;
const ROW = 32;
const TOP = 6;
const GAP = 4;
const MARGIN = 600;

/** Words with their positions: [{word, start, end, provisional, left, width, row}], the sound's times. */
export class Words {
  /**
   * @param {HTMLElement} box
   * @param {(word: object) => void} chosen called with the word to play
   * @param {(word: object | null) => void} pointed called with the one that has focus or pointer
   */
  constructor(box, chosen, pointed) {
    this.box = box;
    this.list = [];
    this.scale = 1;
    this.shown = new Map();
    this.stop = 0;
    this.playing = -1;
    box.addEventListener("click", ({ target }) => {
      const index = this.indexOf(target);
      if (index === null) return;
      this.focus(index);
      chosen(this.list[index]);
    });
    box.addEventListener("keydown", (event) => this.key(event));
    for (const [kind, on] of [["focusin", true], ["focusout", false], ["pointerover", true], ["pointerout", false]]) {
      box.addEventListener(kind, ({ target }) => {
        const index = this.indexOf(target);
        pointed(on && index !== null ? this.list[index] : null);
      });
    }
    this.pen = document.createElement("canvas").getContext("2d");
  }

  /** Take other words; they are in the order of time. */
  set(list) {
    this.list = list;
    this.stop = Math.min(this.stop, Math.max(0, list.length - 1));
    this.playing = -1;
    this.layOut(this.scale);
  }

  /** Position every word at `scale` pixels a second: at its time, or after the word before. */
  layOut(scale) {
    this.scale = scale;
    this.pen.font = `450 15px ${getComputedStyle(document.body).fontFamily}`;
    const ends = new Array(ROWS).fill(0);
    for (const word of this.list) {
      const width = (word.width ??= Math.ceil(this.pen.measureText(word.word).width) + 16);
      const left = word.start * scale;
      let row = ends.findIndex((end) => end <= left);
      if (row < 0) row = ends.indexOf(Math.min(...ends));
      word.row = row;
      word.left = Math.max(left, ends[row]);
      ends[row] = word.left + width + GAP;
    }
    const rows = Math.max(0, ...this.list.map(({ row }) => row + 1));
    this.box.style.height = `${2 * TOP + rows * ROW}px`;
    this.clear();
  }

  /** Show the words between two positions in pixels, and some on both sides. */
  show(from, to) {
    for (const [index, button] of this.shown) {
      if (index !== this.stop && !this.near(index, from, to)) {
        button.remove();
        this.shown.delete(index);
      }
    }
    this.list.forEach((_, index) => {
      if (index === this.stop || this.near(index, from, to)) this.showWord(index);
    });
  }

  /** Mark the word that is spoken at a time. */
  showTime(seconds) {
    let index = lastBefore(this.list, seconds);
    if (index >= 0 && seconds > this.list[index].end + 0.15) index = -1;
    if (index === this.playing) return;
    this.shown.get(this.playing)?.removeAttribute("aria-current");
    this.playing = index;
    this.shown.get(index)?.setAttribute("aria-current", "true");
  }

  near(index, from, to) {
    const { left } = this.list[index];
    return left > from - MARGIN && left < to + MARGIN;
  }

  showWord(index) {
    if (this.shown.has(index)) return;
    const word = this.list[index];
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word.word;
    button.dir = "auto";
    button.dataset.index = index;
    button.tabIndex = index === this.stop ? 0 : -1;
    button.classList.toggle("provisional", Boolean(word.provisional));
    if (index === this.playing) button.setAttribute("aria-current", "true");
    button.style.left = `${word.left}px`;
    button.style.top = `${TOP + word.row * ROW}px`;
    // The order in the page is the order of speech, for those who read it by a screen reader.
    const next = [...this.box.children].find((other) => Number(other.dataset.index) > index);
    this.box.insertBefore(button, next ?? null);
    this.shown.set(index, button);
  }

  focus(index) {
    this.shown.get(this.stop)?.setAttribute("tabindex", "-1");
    this.stop = index;
    this.showWord(index);
    const button = this.shown.get(index);
    button.tabIndex = 0;
    button.focus();
  }

  key(event) {
    const index = this.indexOf(event.target);
    const last = this.list.length - 1;
    const to = {
      ArrowRight: Math.min(last, index + 1),
      ArrowLeft: Math.max(0, index - 1),
      Home: 0,
      End: last,
    }[event.key];
    if (index === null || to === undefined) return;
    event.preventDefault();
    this.focus(to);
  }

  indexOf(target) {
    const given = target.dataset?.index;
    return given === undefined ? null : Number(given);
  }

  clear() {
    const focused = this.box.contains(document.activeElement);
    this.box.replaceChildren();
    this.shown.clear();
    if (focused && this.list.length) this.focus(this.stop);
  }
}
