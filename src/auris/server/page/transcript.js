// The text: paragraphs of words that can be clicked, and live text that may still change.

import { clock } from "./clock.js";
import * as player from "./player.js";
import * as speakers from "./speakers.js";

/** A pause of so many seconds begins a paragraph; a shorter one does so once it is long enough. */
const LONG_PAUSE = 2;
const PAUSE = 0.6;
const ENOUGH_LETTERS = 320;
const MOST_LETTERS = 800;

const SENTENCE_END = /[.?!…。？！।؟]["'”’»)]*\s*$/u;
const UNSPACED = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}]/u;

const box = document.getElementById("text");
const stable = document.getElementById("stable");
const settledPart = document.getElementById("settled");
const provisional = document.getElementById("provisional");
const waiting = document.getElementById("waiting");

let text = "";
/** The open paragraph: {body, letters, end, speaker}. */
let paragraph = null;
/** Parts that have times, in the order of time: {start, end, element}. */
let parts = [];
let playing = -1;
let followsEnd = false;
let followsSound = true;

/** Begin anew. Live text keeps its `end` in view. */
export function clear(invitation = "", { end = false } = {}) {
  [text, paragraph, parts, playing, followsEnd] = ["", null, [], -1, end];
  stable.replaceChildren();
  [settledPart.textContent, provisional.textContent] = ["", ""];
  speakers.clear();
  waiting.textContent = invitation;
  waiting.hidden = invitation === "";
  box.removeAttribute("lang");
  box.scrollTop = 0;
}

/** Add segments: {text, start, end, words, speaker}. */
export function addSegments(segments) {
  for (const segment of segments) addSegment(segment);
  if (text) waiting.hidden = true;
}

/** Add live text of a speaker. */
export function addSpoken({ speaker, text: spoken }) {
  add(text ? ` ${spoken}` : spoken, speaker);
}

/** Add live text, which has no times. */
export function add(added, speaker = paragraph?.speaker ?? null) {
  if (!added) return;
  waiting.hidden = true;
  text += added;
  keepingEnd(() => {
    if (paragraph?.speaker !== speaker) paragraph = newParagraph(null, speaker);
    const part = document.createElement("span");
    part.textContent = added;
    paragraph.body.append(part);
  });
}

/** Show settled text, to which words are only added, and text that may still change. */
export function guess(settled, guessed) {
  if (settled || guessed) waiting.hidden = true;
  keepingEnd(() => {
    settledPart.textContent = settled;
    provisional.textContent = guessed;
  });
}

/** Add what had settled when live text ends early. */
export function keepSettled() {
  add(settledPart.textContent);
  guess("", "");
}

/** End with the complete text. */
export function settle(finalText, language) {
  [settledPart.textContent, provisional.textContent] = ["", ""];
  if (text !== finalText) {
    const end = followsEnd;
    clear("", { end });
    add(finalText);
  }
  if (language) box.lang = language;
  if (!finalText) {
    waiting.textContent = "No speech was recognized in this recording.";
    waiting.hidden = false;
  }
}

/** The text, without paragraphs. */
export function current() {
  return text;
}

/** The text with an empty line between paragraphs, which begin with their speakers. */
export function paragraphs() {
  const written = (paragraph) => {
    const name = paragraph.querySelector(".speaker")?.textContent;
    return (name ? `${name}: ` : "") + paragraph.querySelector(".body").textContent;
  };
  return [...stable.children].map(written).join("\n\n");
}

function addSegment(segment) {
  const spoken = segment.text.trim();
  if (!spoken) return;
  const spaced = text && !(UNSPACED.test(text.at(-1)) && UNSPACED.test(spoken[0]));
  let between = spaced ? " " : "";
  text += between + spoken;
  const speaker = segment.speaker ?? null;
  if (paragraph && paragraph.speaker !== speaker) [paragraph, between] = [null, ""];
  let position = 0;
  for (const word of segment.words ?? []) {
    const at = spoken.indexOf(word.word, position);
    if (at < 0) continue;
    addPart(between + spoken.slice(position, at), word.word, word, speaker);
    between = "";
    position = at + word.word.length;
  }
  if (position === 0) addPart(between, spoken, segment, speaker);
  else addText(spoken.slice(position));
}

function addPart(between, spoken, { start, end }, speaker) {
  if (paragraph && beginsParagraph(start)) {
    // What stands before a word, such as an opening quotation mark, goes with it.
    const [, before, rest] = between.match(/^(.*?)(?:\s+(\S*))?$/s);
    addText(before);
    paragraph = newParagraph(start, speaker);
    addText(rest ?? "");
  } else {
    paragraph ??= newParagraph(start, speaker);
    addText(between);
  }
  const element = document.createElement("span");
  element.className = "part";
  element.textContent = spoken;
  element.dataset.part = parts.length;
  paragraph.body.append(element);
  paragraph.letters += spoken.length;
  paragraph.end = Math.max(paragraph.end, end);
  parts.push({ start, end, element });
}

function addText(added) {
  if (!added) return;
  paragraph.body.append(added);
  paragraph.letters += added.length;
}

function beginsParagraph(start) {
  const pause = start - paragraph.end;
  if (pause >= LONG_PAUSE || paragraph.letters >= MOST_LETTERS) return true;
  if (paragraph.letters < ENOUGH_LETTERS) return false;
  return pause >= PAUSE || SENTENCE_END.test(paragraph.body.textContent);
}

function newParagraph(start, speaker = null) {
  const element = document.createElement("p");
  const body = document.createElement("span");
  body.className = "body";
  if (start !== null) {
    const time = document.createElement("button");
    time.type = "button";
    time.className = "time";
    time.textContent = clock(start);
    time.setAttribute("aria-label", `Play from ${clock(start)}`);
    time.dataset.part = parts.length;
    // All times are one stop of the tab key; arrow keys move among them.
    time.tabIndex = stable.querySelector(".time") ? -1 : 0;
    element.append(time);
  }
  if (speaker !== null) element.append(speakers.nameOf(speaker));
  element.append(body);
  stable.append(element);
  return { body, letters: 0, end: start ?? 0, speaker };
}

/** Keep the end of live text in view, unless the reader has scrolled back. */
function keepingEnd(change) {
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  change();
  if (followsEnd && atEnd) box.scrollTop = box.scrollHeight;
}

function playPart(target) {
  const index = target.dataset?.part;
  if (index !== undefined) player.playFrom(parts[index].start);
}

/** Mark the part that is played, and keep it in view unless the reader has scrolled away. */
function showTime(seconds, { running, sought }) {
  if (sought) followsSound = true;
  const index = running || sought || seconds > 0 ? partAt(seconds) : -1;
  if (index === playing) return;
  parts[playing]?.element.classList.remove("playing");
  playing = index;
  if (index < 0) return;
  const { element } = parts[index];
  element.classList.add("playing");
  if ((running || sought) && followsSound) bringIntoView(element);
}

function partAt(seconds) {
  const index = player.lastBefore(parts, seconds);
  return index >= 0 && seconds <= parts[index].end + 0.15 ? index : -1;
}

function bringIntoView(element) {
  const [inner, outer] = [element.getBoundingClientRect(), box.getBoundingClientRect()];
  if (inner.top >= outer.top && inner.bottom <= outer.bottom - inner.height) return;
  box.scrollTop += inner.top - outer.top - outer.height / 4;
}

function moveAmongTimes(event) {
  const times = [...stable.querySelectorAll(".time")];
  const index = times.indexOf(event.target);
  const to = {
    ArrowDown: index + 1,
    ArrowUp: index - 1,
    Home: 0,
    End: times.length - 1,
  }[event.key];
  if (index < 0 || to === undefined) return;
  event.preventDefault();
  const next = times[Math.max(0, Math.min(times.length - 1, to))];
  times[index].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

player.onTime(showTime);
stable.addEventListener("click", ({ target }) => {
  // Who selects text does not want to hear it.
  if (getSelection().isCollapsed || target.matches(".time")) playPart(target);
});
stable.addEventListener("keydown", moveAmongTimes);
for (const kind of ["wheel", "touchmove", "keydown"]) {
  box.addEventListener(kind, () => (followsSound = false), { passive: true });
}
