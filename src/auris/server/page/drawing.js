// Waveform and spectrogram of a part of a sound, as pictures that are reused.

import { marks } from "./clock.js";
import { colours } from "./colours.js";
import { spectrum } from "./spectrum.js";

export const WAVE = 88;
export const SPECTROGRAM = 96;
export const SCALE = 20;

/** Width of a picture, in CSS pixels. */
export const TILE = 256;

const FAINTEST = -35;
const LOUDEST = 35;
const TOP_HERTZ = 8000;

/** Paints pictures of `sound` ({samples, rate}) at `scale` CSS pixels a second; without a sound,
 * only the scale of time. */
export class Painter {
  constructor(sound, scale) {
    this.sound = sound;
    this.scale = scale;
    this.sharpness = Math.min(window.devicePixelRatio || 1, 2);
    this.colours = colours();
    // A quiet recording is drawn as large as a loud one.
    this.gain = sound?.peak ? Math.min(30, 0.92 / sound.peak) : 1;
    this.lift = 20 * Math.log10(this.gain);
    this.pictures = new Map();
    this.height = (sound ? WAVE + SPECTROGRAM : 0) + SCALE;
  }

  /** The picture from `index` * TILE on; those whose sound still grows are painted anew. */
  tile(index) {
    const known = this.pictures.get(index);
    const samples = this.sound?.samples.length ?? Infinity;
    const end = ((index + 1) * TILE / this.scale) * (this.sound?.rate ?? 0);
    if (known && (known.complete || known.samples === samples)) return known.canvas;
    const canvas = document.createElement("canvas");
    canvas.width = TILE * this.sharpness;
    canvas.height = this.height * this.sharpness;
    this.paint(canvas, index);
    this.pictures.set(index, { canvas, samples, complete: samples >= end });
    if (this.pictures.size > 64) this.pictures.delete(this.pictures.keys().next().value);
    return canvas;
  }

  paint(canvas, index) {
    const to = canvas.getContext("2d", { alpha: false });
    to.fillStyle = this.colours.css.card;
    to.fillRect(0, 0, canvas.width, canvas.height);
    if (this.sound) {
      const perColumn = this.sound.rate / (this.scale * this.sharpness);
      const first = index * canvas.width * perColumn;
      this.wave(to, first, perColumn);
      this.spectra(to, first, perColumn);
    }
    to.setTransform(this.sharpness, 0, 0, this.sharpness, 0, 0);
    this.scaleMarks(to, index);
  }

  wave(to, first, perColumn) {
    const { samples } = this.sound;
    const middle = (WAVE * this.sharpness) / 2;
    const least = this.sharpness / 2;
    to.fillStyle = this.colours.css.accent;
    for (let x = 0; x < to.canvas.width; x++) {
      const begin = Math.round(first + x * perColumn);
      const end = Math.min(samples.length, Math.max(begin + 1, Math.round(first + (x + 1) * perColumn)));
      if (begin >= samples.length) return;
      let [low, high] = [0, 0];
      for (let i = begin; i < end; i++) {
        if (samples[i] < low) low = samples[i];
        else if (samples[i] > high) high = samples[i];
      }
      const amplitude = middle * this.gain;
      const top = Math.min(middle - least, middle - high * amplitude);
      to.fillRect(x, top, 1, Math.max(2 * least, middle - low * amplitude - top));
    }
  }

  spectra(to, first, perColumn) {
    const height = Math.round(SPECTROGRAM * this.sharpness);
    const image = to.createImageData(to.canvas.width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const { samples, rate } = this.sound;
    const { ramp } = this.colours;
    const bands = this.bands(height, rate);
    for (let x = 0; x < image.width; x++) {
      const middle = Math.round(first + (x + 0.5) * perColumn);
      const decibels = middle < samples.length ? spectrum(samples, middle) : null;
      for (let y = 0; y < height; y++) {
        const loud = decibels ? (decibels[bands[y]] + this.lift - FAINTEST) / (LOUDEST - FAINTEST) : 0;
        pixels[y * image.width + x] = ramp[Math.max(0, Math.min(255, Math.round(loud * 255)))];
      }
    }
    to.putImageData(image, 0, Math.round(WAVE * this.sharpness));
  }

  // The scale of pitch of O'Shaughnessy (mel), as listeners hear it: low voices get the room.
  bands(height, rate) {
    const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
    const top = mel(Math.min(TOP_HERTZ, rate / 2));
    return Array.from({ length: height }, (_, y) => {
      const hertz = 700 * (10 ** ((top * (1 - (y + 0.5) / height)) / 2595) - 1);
      return Math.min(255, Math.round((hertz / (rate / 2)) * 256));
    });
  }

  scaleMarks(to, index) {
    to.font = "12px system-ui, sans-serif";
    to.fillStyle = this.colours.css.soft;
    const from = (index * TILE) / this.scale;
    const to_ = from + TILE / this.scale;
    // A label of the picture before may reach into this one.
    const before = 70 / this.scale;
    for (const { seconds, label } of marks(from - before, to_, this.scale, 70)) {
      const x = Math.round((seconds - from) * this.scale);
      to.fillRect(x, this.height - SCALE, 1, 5);
      to.fillText(label, x + 4, this.height - 6);
    }
  }
}
