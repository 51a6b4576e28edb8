// From a microphone's rate to another one, block by block.

const ZEROS = 16;

/** Interpolation by a windowed sinc (J. O. Smith, Digital Audio Resampling), low-passed where the
 * rate falls. The output does not depend on the lengths of the blocks. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.cut = Math.min(1, to / from);
    this.radius = Math.ceil(ZEROS / this.cut);
    // Silence before the first sample.
    this.buffer = new Float32Array(this.radius);
    this.position = this.radius;
  }

  /** The output samples that no later input changes, after another block. */
  take(block) {
    if (this.step === 1) return block.slice();
    const all = new Float32Array(this.buffer.length + block.length);
    all.set(this.buffer);
    all.set(block, this.buffer.length);
    const count = Math.max(0, Math.ceil((all.length - this.radius - this.position) / this.step));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = this.at(all, this.position + i * this.step);
    const next = this.position + count * this.step;
    const passed = Math.max(0, Math.floor(next) - this.radius);
    this.buffer = all.slice(passed);
    this.position = next - passed;
    return out;
  }

  at(samples, position) {
    const first = Math.max(0, Math.ceil(position - this.radius));
    const last = Math.min(samples.length - 1, Math.floor(position + this.radius));
    let sum = 0;
    for (let i = first; i <= last; i++) sum += samples[i] * this.weight(i - position);
    return sum;
  }

  weight(distance) {
    const x = distance * this.cut;
    const hann = 0.5 + 0.5 * Math.cos((Math.PI * distance) / this.radius);
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    return this.cut * sinc * hann;
  }
}
