// Times as people read them, and the marks of a time scale.

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];

/** "1:05" of 65 s, "1:01:05" of 3665 s. */
export function clock(seconds) {
  const total = Math.floor(seconds + 1e-6);
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  const rest = String(total % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/**
 * The marks of a scale.
 *
 * @param {number} from the first second in view
 * @param {number} to the last one
 * @param {number} pixels of a second
 * @param {number} apart the pixels that marks are apart at least
 * @returns {{seconds: number, label: string}[]}
 */
export function marks(from, to, pixels, apart) {
  const step = STEPS.find((seconds) => seconds * pixels >= apart) ?? 4 * 3600;
  const list = [];
  for (let n = Math.max(0, Math.ceil(from / step - 1e-9)); n * step <= to; n++) {
    const seconds = n * step;
    const short = seconds < 60 && to - from < 60;
    list.push({ seconds, label: short ? `${seconds.toFixed(step < 1 ? 1 : 0)} s` : fine(seconds, step) });
  }
  return list;
}

function fine(seconds, step) {
  return step < 1 ? `${clock(seconds)}.${Math.round(seconds * 10) % 10}` : clock(seconds);
}
