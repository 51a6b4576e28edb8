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
  keepingEnd(() => stable.append(part));
}

/** Show text that may still change. */
export function guess(piece) {
  if (piece) waiting.hidden = true;
  keepingEnd(() => (provisional.textContent = piece));
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

/** Keep the end in view, unless somebody has scrolled back to read. */
function keepingEnd(change) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  change();
  if (atEnd) text.scrollTop = text.scrollHeight;
}
