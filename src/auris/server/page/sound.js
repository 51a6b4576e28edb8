// Sounds as samples: decoded from files, or growing while somebody speaks.

const RATE = 16000;
const MOST_SECONDS = 3600;
const MOST_BYTES = 512 * 1024 * 1024;

/** Samples of a recording, {samples, rate, peak}; null where the browser cannot read it, or it is long. */
export async function decoded(recording, seconds) {
  if (seconds > MOST_SECONDS || recording.size > MOST_BYTES) return null;
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    const buffer = await context.decodeAudioData(await recording.arrayBuffer());
    const samples = buffer.getChannelData(0);
    for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
      buffer.getChannelData(channel).forEach((value, i) => (samples[i] += value));
    }
    if (buffer.numberOfChannels > 1) {
      for (let i = 0; i < samples.length; i++) samples[i] /= buffer.numberOfChannels;
    }
    const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return { samples, rate: RATE, peak };
  } catch {
    return null;
  }
}

/** A sound to which samples are added. */
export class Growing {
  constructor(rate) {
    this.rate = rate;
    this.room = new Float32Array(rate * 30);
    this.length = 0;
  }

  get samples() {
    return this.room.subarray(0, this.length);
  }

  get seconds() {
    return this.length / this.rate;
  }

  add(samples) {
    if (this.length + samples.length > this.room.length) {
      const larger = new Float32Array(2 * this.room.length + samples.length);
      larger.set(this.samples);
      this.room = larger;
    }
    this.room.set(samples, this.length);
    this.length += samples.length;
  }
}

/** 16-bit samples of -1 to 1. */
export function pcm16(samples) {
  return Int16Array.from(samples, (value) => {
    const clipped = Math.max(-1, Math.min(1, value));
    return Math.round(clipped * 32767);
  });
}

/** A WAV file. */
export function wav(sound, name) {
  const data = pcm16(sound.samples);
  const head = new DataView(new ArrayBuffer(44));
  const text = (offset, letters) =>
    [...letters].forEach((letter, i) => head.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + data.byteLength, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, sound.rate, true);
  head.setUint32(28, 2 * sound.rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, data.byteLength, true);
  return new File([head, data], name, { type: "audio/wav" });
}
