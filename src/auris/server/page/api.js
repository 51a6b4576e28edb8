// The API of the server: models, transcriptions, jobs and the socket of live speech.

import { PageError } from "./errors.js";
import { address, key, request, upload } from "./request.js";

/** Formats that can be downloaded, by their names in the API: ending and type of the file. */
export const FORMATS = {
  srt: ["srt", "application/x-subrip"],
  vtt: ["vtt", "text/vtt"],
  text: ["txt", "text/plain"],
  verbose_json: ["json", "application/json"],
};

/** The served models: [{id, capabilities: {languages, prompt, words, speakers}}]. */
export async function models() {
  return (await (await request("models")).json()).data;
}

/**
 * Transcribe a recording in one call.
 *
 * @param {File} file
 * @param {object} requested {model, language, keywords, words, quiet, speakers}: `words` for
 *   their times, `quiet` to leave long silence out, `speakers` to tell them apart: "any" or a number
 * @param {{signal: AbortSignal, sent: (share: number) => void, event: (event: object) => void}} to
 */
export async function transcribe(file, requested, { signal, sent, event }) {
  const form = formOf(file, requested);
  form.set("stream", "true");
  for (const format of Object.keys(FORMATS)) form.append("formats[]", format);
  let read = 0;
  let over = false;
  const receive = (text) => {
    const end = text.lastIndexOf("\n\n");
    if (end < read) return;
    for (const update of events(text.slice(read, end))) {
      if (update.error) throw new PageError(update.error.message);
      over ||= update.type === "transcript.text.done";
      event(update);
    }
    read = end + 2;
  };
  let failure = null;
  const response = await upload("audio/transcriptions", form, {
    signal,
    sent,
    received: (text) => {
      try {
        if (!failure) receive(text);
      } catch (error) {
        failure = error;
      }
    },
  });
  if (!failure) receive(await response.text());
  if (failure) throw failure;
  if (!over) throw new PageError("The server closed the connection before the text was complete.");
}

/** Create a job; see `transcribe`. */
export async function createJob(file, requested, { signal, sent }) {
  return await (await upload("jobs", formOf(file, requested), { signal, sent })).json();
}

/** How far a job is: {status, progress: {seconds_done, seconds_total}, error}. */
export async function job(id, signal) {
  return await (await request(`jobs/${id}`, { signal })).json();
}

/** The segments of a job that are done, without the first `after`. */
export async function jobSegments(id, after, signal) {
  return (await (await request(`jobs/${id}/segments?after=${after}`, { signal })).json()).data;
}

/** The result of a job in one of the `FORMATS`. */
export async function jobResult(id, format, signal) {
  const response = await request(`jobs/${id}/result?response_format=${format}`, { signal });
  return format === "verbose_json" ? await response.json() : await response.text();
}

/** Remove a job with its recording and its result. */
export async function deleteJob(id) {
  await request(`jobs/${id}`, { method: "DELETE" });
}

/** A WebSocket for live speech. */
export function liveSocket(model) {
  const url = address("realtime");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ intent: "transcription", model });
  const protocols = ["realtime"];
  if (key.get()) protocols.push(`openai-insecure-api-key.${key.get()}`);
  return new WebSocket(url, protocols);
}

function formOf(file, requested) {
  const form = new FormData();
  form.set("model", requested.model);
  if (requested.language) form.set("language", requested.language);
  for (const word of requested.keywords) form.append("keywords[]", word);
  if (requested.quiet) form.set("chunking_strategy", "auto");
  if (requested.speakers) form.set("diarize", "true");
  if (requested.speakers && requested.speakers !== "any") form.set("speakers", requested.speakers);
  if (requested.words) form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  form.set("response_format", "verbose_json");
  form.set("file", file, file.name);
  return form;
}

function* events(text) {
  for (const part of text.split("\n\n")) {
    const data = part.split("\n").filter((line) => line.startsWith("data:"));
    if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
  }
}
