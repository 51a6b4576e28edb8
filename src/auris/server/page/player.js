// Playing the recording.

const audio = document.getElementById("audio");
const play = document.getElementById("play");
const position = document.getElementById("position");
const time = document.getElementById("time");

const listeners = [];
let address = "";

/** Be told of the time that is heard, in seconds. */
export function onTime(listener) {
  listeners.push(listener);
}

/** Take a recording; resolves to its seconds, or to null where the browser cannot play it. */
export function load(recording) {
  URL.revokeObjectURL(address);
  address = URL.createObjectURL(recording);
  return new Promise((resolve) => {
    audio.onloadedmetadata = () => {
      enable(true);
      // Recordings without a header that tells their length are endless to a browser.
      resolve(Number.isFinite(audio.duration) ? audio.duration : null);
    };
    audio.onerror = () => {
      enable(false);
      resolve(null);
    };
    audio.src = address;
    show();
  });
}

/** Give the recording back. */
export function unload() {
  audio.onerror = null;
  audio.removeAttribute("src");
  audio.load();
  enable(false);
}

/** Go to a time and play from there. */
export async function playFrom(seconds) {
  audio.currentTime = seconds;
  await audio.play().catch(() => {});
}

/** Go to a time. */
export function seek(seconds) {
  audio.currentTime = seconds;
  show();
}

/** "1:05" of 65 s. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function enable(can) {
  play.disabled = position.disabled = !can;
}

function show() {
  const seconds = Number.isFinite(audio.duration) ? audio.duration : 0;
  position.max = seconds || 1;
  position.value = audio.currentTime;
  const said = `${clock(audio.currentTime)} of ${clock(seconds)}`;
  position.setAttribute("aria-valuetext", said);
  time.textContent = `${clock(audio.currentTime)} / ${clock(seconds)}`;
  play.classList.toggle("playing", !audio.paused);
  play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  for (const listener of listeners) listener(audio.currentTime, !audio.paused);
}

function tick() {
  show();
  if (!audio.paused) requestAnimationFrame(tick);
}

for (const event of ["pause", "seeked", "ended", "durationchange"]) audio.addEventListener(event, show);
audio.addEventListener("play", tick);
play.addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
position.addEventListener("input", () => seek(Number(position.value)));
