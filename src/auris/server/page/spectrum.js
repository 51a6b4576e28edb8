// Short-time spectra of a sound.

const SIZE = 512;
const HALF = SIZE / 2;

const window_ = Float32Array.from(
  { length: SIZE },
  (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE),
);
const cosine = Float32Array.from({ length: HALF }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const sine = Float32Array.from({ length: HALF }, (_, i) => -Math.sin((2 * Math.PI * i) / SIZE));
const reversed = Uint16Array.from({ length: SIZE }, (_, i) => {
  let turned = 0;
  for (let bit = 1, other = HALF; bit < SIZE; bit <<= 1, other >>= 1) if (i & bit) turned |= other;
  return turned;
});

const real = new Float32Array(SIZE);
const imaginary = new Float32Array(SIZE);

/** Decibels of the bands from 0 Hz to half the rate, around one sample; valid until the next call. */
export function spectrum(samples, middle, into = new Float32Array(HALF)) {
  for (let i = 0; i < SIZE; i++) {
    real[reversed[i]] = (samples[middle - HALF + i] ?? 0) * window_[i];
  }
  imaginary.fill(0);
  transform();
  for (let i = 0; i < HALF; i++) {
    into[i] = 10 * Math.log10(real[i] * real[i] + imaginary[i] * imaginary[i] + 1e-9);
  }
  return into;
}

// The radix-2 transform of Cooley and Tukey, in place.
function transform() {
  for (let span = 1; span < SIZE; span <<= 1) {
    const stride = HALF / span;
    for (let start = 0; start < SIZE; start += 2 * span) {
      for (let i = 0; i < span; i++) {
        const [a, b] = [start + i, start + i + span];
        const [c, s] = [cosine[i * stride], sine[i * stride]];
        const re = real[b] * c - imaginary[b] * s;
        const im = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}
