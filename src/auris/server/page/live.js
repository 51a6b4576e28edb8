// Live speech: samples to the server's WebSocket, text back.

import { liveSocket } from "./api.js";
import { PageError } from "./errors.js";
import { pcm16 } from "./sound.js";

export const RATE = 24000;

const PATIENCE = 20000;

/**
 * A session; `shown` is called with {text, spoken, settled, guess, words} whenever the text has
 * changed. `text` is final, `settled` only grows until its chunk is over, and `guess` may still
 * change. Where speakers were requested, `spoken` is the final text by speakers, {speaker, text},
 * and else null.
 */
export class Session {
  constructor(requested, shown, failed) {
    this.requested = requested;
    this.shown = shown;
    this.failed = failed;
    this.items = new Map();
    this.waiting = [];
    this.ready = false;
    this.over = false;
    this.socket = liveSocket(requested.model);
    this.open = new Promise((resolve, reject) => {
      this.socket.onmessage = ({ data }) => this.take(JSON.parse(data), resolve);
      this.socket.onclose = (event) => {
        const error = closed(event);
        reject(error);
        this.left?.();
        if (!this.over) this.failed(error);
        this.over = true;
      };
    });
    // `speech.js` awaits it and shows its error.
    this.open.catch(() => {});
  }

  /** Send samples of `RATE`, none of which is left out, since times are counted by them. */
  send(samples) {
    if (!this.ready) {
      this.waiting.push(samples);
      return;
    }
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.say({ type: "input_audio_buffer.append", audio: base64(pcm16(samples)) });
  }

  /** Have the rest recognized; resolves when its text is there. */
  async finish() {
    if (this.socket.readyState === WebSocket.OPEN) {
      if (this.unfinished().some((item) => !item.committed)) {
        this.say({ type: "input_audio_buffer.commit" });
      }
      await Promise.race([
        new Promise((resolve) => {
          this.left = resolve;
          this.settle();
        }),
        new Promise((resolve) => setTimeout(resolve, PATIENCE)),
      ]);
    }
    this.end();
  }

  /** Leave. */
  end() {
    this.over = true;
    this.socket.close();
  }

  say(event) {
    this.socket.send(JSON.stringify(event));
  }

  take(event, opened) {
    const item = event.item_id ? this.item(event.item_id) : null;
    switch (event.type) {
      case "session.created":
        this.say({ type: "session.update", session: this.settings() });
        break;
      case "session.updated":
        this.ready = true;
        for (const samples of this.waiting.splice(0)) this.send(samples);
        opened();
        break;
      case "input_audio_buffer.committed":
        item.committed = true;
        break;
      case "conversation.item.input_audio_transcription.delta":
        item.settled += event.delta;
        item.guess = "";
        break;
      case "auris.final":
        // The text of a whole chunk, in place of what had settled of it.
        item.text += event.text;
        [item.settled, item.guess] = [event.carried, ""];
        // Their words come next; until then those that were guessed stand for them.
        break;
      case "auris.speakers":
        if (event.final) item.spoken.push(...event.speakers);
        break;
      case "auris.words":
        item.words.push(...timed(event.words));
        item.guessed = [];
        break;
      case "auris.provisional":
        item.guess = event.text;
        item.guessed = timed(event.words ?? [], true);
        break;
      case "conversation.item.input_audio_transcription.completed":
        item.text = event.transcript;
        item.settled = "";
        this.voidGuess(item);
        item.done = true;
        break;
      case "conversation.item.input_audio_transcription.failed":
        this.voidGuess(item);
        item.done = true;
        this.failed(new PageError(event.error.message));
        break;
      case "error":
        // Nobody spoke since: there is nothing left to commit.
        if (event.error.code === "input_audio_buffer_commit_empty") {
          for (const open of this.unfinished()) if (!open.committed) open.done = true;
        } else if (!this.over) this.failed(new PageError(event.error.message));
        break;
      default:
        return;
    }
    this.update();
    this.settle();
  }

  settings() {
    const { model, language, keywords, words, speakers } = this.requested;
    const include = ["auris.provisional", "auris.final"];
    if (words) include.push("auris.words");
    if (speakers) include.push("auris.speakers");
    const transcription = { model, keywords };
    if (language) transcription.language = language;
    return {
      type: "transcription",
      audio: { input: { format: { type: "audio/pcm", rate: RATE }, transcription } },
      include,
    };
  }

  item(id) {
    if (!this.items.has(id)) {
      const fresh = { text: "", spoken: [], settled: "", guess: "", words: [], guessed: [] };
      this.items.set(id, { ...fresh, committed: false, done: false });
    }
    return this.items.get(id);
  }

  voidGuess(item) {
    [item.guess, item.guessed] = ["", []];
  }

  unfinished() {
    return [...this.items.values()].filter((item) => !item.done);
  }

  settle() {
    if (this.unfinished().length === 0) this.left?.();
  }

  update() {
    const items = [...this.items.values()];
    const text = items.map((item) => item.text).filter(Boolean).join(" ");
    let settled = items.map((item) => item.settled).join("");
    let guess = items.map((item) => item.guess).join("");
    // An item begins without a space.
    if (text && /^\S/.test(settled)) settled = ` ${settled}`;
    else if (text && !settled && /^\S/.test(guess)) guess = ` ${guess}`;
    this.shown({
      text,
      spoken: this.requested.speakers ? items.flatMap((item) => item.spoken) : null,
      settled,
      guess,
      words: items.flatMap((item) => [...item.words, ...item.guessed]),
    });
  }
}

function timed(words, provisional = false) {
  return words
    .filter((word) => word.start_ms !== null && word.end_ms !== null)
    .map(({ word, start_ms, end_ms }) => ({
      word,
      start: start_ms / 1000,
      end: end_ms / 1000,
      provisional,
    }));
}

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer);
  let letters = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    letters += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(letters);
}

function closed({ code, reason }) {
  if (code === 1012) return new PageError("The server is stopping. The text that is shown stays.");
  if (code === 1008) return new PageError(reason || "The server ended the session.");
  if (code === 1006) {
    return new PageError("The live connection broke off. The server may be full, or it has ended.");
  }
  return new PageError(`The server ended the live connection (${reason || code}).`);
}
