// The server: its models, and transcripts as they come.

import { Told, fromResponse } from "./errors.js";

const ROOT = new URL("v1/", document.baseURI);
const KEPT = "auris-key";

/** The key that the server asked for; kept while the tab is open. */
export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  /** Whether it can stand in a request at all. */
  possible: (value) => /^[!-~]*$/.test(value),
  set: (value) => sessionStorage.setItem(KEPT, value),
};

/** The served models: [{id, capabilities: {languages, prompt, words}}]. */
export async function models() {
  const response = await ask("models");
  return (await response.json()).data;
}

/**
 * Have a recording transcribed.
 *
 * @param {Blob} recording with a `name` where it is a file
 * @param {object} asked {model, language, prompt, words, quiet}: `words` for their times, `quiet` to
 *   leave long silence out
 * @param {AbortSignal} signal
 * @yields {object} the server's events, until the last one
 */
export async function* transcription(recording, asked, signal) {
  const form = new FormData();
  form.set("model", asked.model);
  if (asked.language) form.set("language", asked.language);
  if (asked.prompt) form.set("prompt", asked.prompt);
  if (asked.quiet) form.set("chunking_strategy", "auto");
  if (asked.words) form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  form.set("response_format", "verbose_json");
  form.set("stream", "true");
  for (const format of ["text", "srt", "vtt", "verbose_json"]) form.append("formats[]", format);
  form.set("file", recording, recording.name ?? "recording.wav");
  const response = await ask("audio/transcriptions", { method: "POST", body: form, signal });
  let over = false;
  for await (const event of events(response.body)) {
    if (event.error) throw new Told(event.error.message);
    over = event.type === "transcript.text.done";
    yield event;
  }
  if (!over) throw new Told("The server ended before the text did.");
}

/** A WebSocket for live speech. */
export function liveSocket(model) {
  const place = new URL("realtime", ROOT);
  place.protocol = place.protocol === "https:" ? "wss:" : "ws:";
  place.search = new URLSearchParams({ intent: "transcription", model });
  const protocols = ["realtime"];
  if (key.get()) protocols.push(`openai-insecure-api-key.${key.get()}`);
  return new WebSocket(place, protocols);
}

async function ask(path, options = {}) {
  const known = key.get();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  const response = await fetch(new URL(path, ROOT), { ...options, headers, cache: "no-store" });
  if (!response.ok) throw await fromResponse(response, known !== "");
  return response;
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const parts = waiting.split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}
