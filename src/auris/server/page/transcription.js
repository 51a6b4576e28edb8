// The transcription of one recording: a call where it is short, else a job.

import * as api from "./api.js";
import { Channel } from "./channel.js";
import { PageError } from "./errors.js";
import * as jobs from "./jobs.js";

/** Longest recording that is transcribed in a call. */
const CALL_SECONDS = 60;
/** Largest one, where the browser cannot tell its length. */
const CALL_BYTES = 1024 * 1024;

const POLL = 500;
const POLL_LONG = 1500;
const LONG_SECONDS = 600;
const RETRY = 3000;

/**
 * Transcribe a recording.
 *
 * @param {File} file
 * @param {object} requested see `api.transcribe`
 * @param {number | null} seconds its length, where the browser knows it
 * @param {AbortSignal} signal
 * @yields {object} an update: {state, ...} with the state "sending" (`share`), "waiting",
 *   "reading", "unreachable" or "transcribing" (`done` and `total` seconds); {segments}; at the end
 *   {text, language, formats}
 */
export function transcribe(file, requested, seconds, signal) {
  const long = seconds === null ? file.size > CALL_BYTES : seconds > CALL_SECONDS;
  return (long ? byJob : byCall)(file, requested, seconds, signal);
}

/** The updates of a job that is remembered; see `transcribe`. */
export async function* resume(job, signal) {
  try {
    yield* follow(job.id, signal);
  } finally {
    if (signal.aborted) jobs.discard(job.id);
  }
}

async function* byCall(file, requested, seconds, signal) {
  const updates = new Channel();
  const result = {};
  const take = (event) => {
    if (event.type === "auris.transcript.segment") {
      updates.push({ segments: [event.segment] });
      updates.push({ state: "transcribing", done: event.segment.end, total: seconds });
    } else if (event.type === "auris.transcript.formats") {
      result.formats = event.formats;
    } else if (event.type === "transcript.text.done") {
      Object.assign(result, { text: event.text, language: result.formats.verbose_json.language });
    }
  };
  const sent = (share) => updates.push(sending(share));
  updates.closeWith(api.transcribe(file, requested, { signal, sent, event: take }));
  yield sending(0);
  yield* updates;
  yield result;
}

async function* byJob(file, requested, seconds, signal) {
  const updates = new Channel();
  const sent = (share) => updates.push(sending(share));
  const created = api.createJob(file, requested, { signal, sent });
  updates.closeWith(created);
  yield sending(0);
  yield* updates;
  const job = { id: (await created).id, name: file.name, size: file.size, requested };
  jobs.remember(job);
  yield* resume(job, signal);
}

function sending(share) {
  return share < 1 ? { state: "sending", share } : { state: "waiting" };
}

async function* follow(id, signal) {
  let count = 0;
  for (;;) {
    const { status, progress, error } = yield* retried(() => api.job(id, signal), signal);
    if (status === "failed") throw new PageError(error.message);
    if (status === "cancelled") throw new PageError("The transcription was cancelled.");
    if (status === "queued") yield { state: "waiting" };
    else {
      const segments = yield* retried(() => api.jobSegments(id, count, signal), signal);
      count += segments.length;
      if (segments.length) yield { segments };
      yield stateOf(progress);
    }
    if (status === "succeeded") break;
    await pause(progress.seconds_total > LONG_SECONDS ? POLL_LONG : POLL, signal);
  }
  yield yield* retried(() => resultOf(id, signal), signal);
}

function stateOf({ seconds_done: done, seconds_total: total }) {
  // A recording is decoded to its end before its first segment is transcribed.
  return total === null ? { state: "reading" } : { state: "transcribing", done, total };
}

async function resultOf(id, signal) {
  const results = Object.keys(api.FORMATS).map(async (format) => [
    format,
    await api.jobResult(id, format, signal),
  ]);
  const formats = Object.fromEntries(await Promise.all(results));
  const { text, language } = formats.verbose_json;
  return { text, language, formats };
}

/** What a request returns, which is tried until the server answers: a job outlives its server. */
async function* retried(request, signal) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (error.status === 404) {
        throw new PageError(
          "The server no longer has this transcription. Choose the recording again.",
          { status: 404 },
        );
      }
      if (!error.temporary) throw error;
      yield { state: "unreachable" };
      await pause(RETRY, signal);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
