// From a microphone's rate to another one, block by block.

const ZEROS = 16;

/** Interpolation by a windowed sinc (J. O. Smith, Digital Audio Resampling), low-passed where the
 * rate falls. What is given in pieces of any length comes out as if given whole. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.cut = Math.min(1, to / from);
    this.reach = Math.ceil(ZEROS / this.cut);
    // Silence before the first sample.
    this.kept = new Float32Array(this.reach);
    this.place = this.reach;
  }

  /** The samples that are certain once `block` is heard. */
  take(block) {
    if (this.step === 1) return block.slice();
    const all = new Float32Array(this.kept.length + block.length);
    all.set(this.kept);
    all.set(block, this.kept.length);
    const count = Math.max(0, Math.ceil((all.length - this.reach - this.place) / this.step));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = this.at(all, this.place + i * this.step);
    const next = this.place + count * this.step;
    const passed = Math.max(0, Math.floor(next) - this.reach);
    this.kept = all.slice(passed);
    this.place = next - passed;
    return out;
  }

  at(samples, place) {
    const first = Math.max(0, Math.ceil(place - this.reach));
    const last = Math.min(samples.length - 1, Math.floor(place + this.reach));
    let sum = 0;
    for (let i = first; i <= last; i++) sum += samples[i] * this.weight(i - place);
    return sum;
  }

  weight(distance) {
    const x = distance * this.cut;
    const hann = 0.5 + 0.5 * Math.cos((Math.PI * distance) / this.reach);
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    return this.cut * sinc * hann;
  }
}
