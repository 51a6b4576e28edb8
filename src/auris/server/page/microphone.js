// The microphone.

import { PageError, unreachable } from "./errors.js";
import { Resampler } from "./resample.js";

const REFUSALS = {
  NotAllowedError:
    "The browser does not let this page hear the microphone. Allow it in the browser's settings for this page, then press Speak again.",
  NotFoundError: "No microphone was found. Connect one, then press Speak again.",
  NotReadableError: "The microphone is in use by another program, or does not answer.",
};

/**
 * Listen.
 *
 * @param {number} rate of the samples that are passed on
 * @param {(samples: Float32Array) => void} take called with samples
 * @param {() => void} lost called when the microphone is disconnected
 * @returns {Promise<() => Promise<void>>} ends it
 */
export async function listen(rate, take, lost) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new PageError(
      "Browsers hear a microphone only on pages of this machine or over https. Open this page as localhost or by https.",
    );
  }
  const stream = await granted();
  const context = new AudioContext();
  const end = async () => {
    for (const part of stream.getTracks()) part.stop();
    if (context.state !== "closed") await context.close();
  };
  try {
    await loadCapture(context);
    await context.resume();
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1 });
    const resampler = new Resampler(context.sampleRate, rate);
    capture.port.onmessage = ({ data }) => take(resampler.take(data));
    context.createMediaStreamSource(stream).connect(capture);
    stream.getTracks()[0].onended = lost;
    return end;
  } catch (error) {
    await end();
    throw error;
  }
}

/** Load the script of the audio thread, which the browser requests only now. */
async function loadCapture(context) {
  try {
    await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
  } catch (error) {
    throw error.name === "AbortError" ? unreachable() : error;
  }
}

async function granted() {
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
    });
  } catch (error) {
    throw new PageError(REFUSALS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}
