// The text: what stays, and what may still change.

const text = document.getElementById("text");
const stable = document.getElementById("stable");
const provisional = document.getElementById("provisional");
const waiting = document.getElementById("waiting");

/** Begin anew. */
export function clear(invitation = "") {
  stable.replaceChildren();
  provisional.textContent = "";
  waiting.textContent = invitation;
  waiting.hidden = invitation === "";
  text.removeAttribute("lang");
}

/** Add text that stays. */
export function add(piece) {
  if (!piece) return;
  waiting.hidden = true;
  const part = document.createElement("span");
  part.textContent = piece;
  stable.append(part);
  follow();
}

/** Show text that may still change. */
export function guess(piece) {
  if (piece) waiting.hidden = true;
  provisional.textContent = piece;
  follow();
}

/** Put the whole text in the place of its parts, where they differ. */
export function settle(whole, language) {
  provisional.textContent = "";
  if (stable.textContent !== whole) {
    stable.replaceChildren();
    add(whole);
  }
  if (language) text.lang = language;
  if (!whole) {
    waiting.textContent = "Nothing was understood in this recording.";
    waiting.hidden = false;
  }
}

/** The text that stays. */
export function current() {
  return stable.textContent;
}

function follow() {
  text.scrollTop = text.scrollHeight;
}
