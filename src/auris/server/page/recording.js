// The recording that is shown: its sound, its text and the files of it.

import { clock } from "./clock.js";
import * as downloads from "./downloads.js";
import * as jobs from "./jobs.js";
import * as options from "./options.js";
import * as player from "./player.js";
import { decoded } from "./sound.js";
import * as speakers from "./speakers.js";
import * as timeline from "./timeline.js";
import * as transcript from "./transcript.js";
import { resume, transcribe } from "./transcription.js";
import * as ui from "./ui.js";

const [results, again, copy, sound, soundName, soundHint, controls] = [
  "results",
  "again",
  "copy",
  "sound",
  "sound-name",
  "sound-hint",
  "player",
].map((id) => document.getElementById(id));

const TOO_LONG = "The browser does not draw recordings that are longer than an hour.";
const NOT_DRAWN = "The browser cannot draw this recording.";
const NOT_PLAYED = "The browser cannot play this recording.";
const NOT_STORED =
  "The page does not store the sound of a recording when it is loaded again. Choose the same file to hear it.";

/** {file, name, size, quiet, seconds, words, formats}; `file` is null after the page was loaded again. */
let shown = null;
/** Ends the transcription that runs. */
let controller = null;
/** Loads the models of the server. */
let connect = async () => {};

/** Call `load` when a recording comes before the models are known. */
export function connectWith(load) {
  connect = load;
}

/** Show a recording and transcribe it; `problem` is shown meanwhile. */
export async function open(file, { quiet = false, keepText = false, problem = null } = {}) {
  close();
  const mine = begin({ file, name: file.name, size: file.size, quiet });
  if (!keepText) transcript.clear("The text appears here.");
  mine.seconds = await player.load(file);
  if (shown !== mine) return;
  draw(mine);
  await run(keepText, problem);
}

/** Hear a file whose transcription is shown already; false where it is another one. */
export function attach(file) {
  const mine = shown;
  if (!mine || mine.file || mine.name !== file.name || mine.size !== file.size) return false;
  if (!controller && !transcript.current()) return false;
  mine.file = file;
  soundHint.textContent = "";
  player.load(file).then((seconds) => {
    if (shown !== mine) return;
    mine.seconds = seconds ?? mine.seconds;
    draw(mine);
  });
  if (!controller) showResults();
  return true;
}

/** Show the job of this tab, if there is one and nothing else is shown. */
export async function restore() {
  const job = jobs.remembered();
  if (!job || shown) return;
  options.choose(job.requested);
  const { name, size, requested } = job;
  begin({ file: null, name, size, quiet: requested.quiet });
  transcript.clear("The text appears here.");
  soundHint.textContent = NOT_STORED;
  await consume((signal) => resume(job, signal), false);
}

/** Transcribe the recording again. */
export function repeat() {
  // The text stays until there is another: the server may be full, or not there.
  if (shown?.file) run(transcript.current() !== "");
}

/** End the transcription. */
export function cancel() {
  controller?.abort();
}

/** Show no recording. */
export function close() {
  abort();
  shown = null;
  ui.calm();
  ui.idle();
  player.unload();
  downloads.clear();
  results.hidden = true;
}

function begin(recording) {
  shown = { seconds: null, words: [], ...recording };
  document.body.classList.add("has-recording");
  controls.hidden = sound.hidden = false;
  soundName.textContent = recording.name;
  soundHint.textContent = "";
  timeline.clear();
  return shown;
}

/** Draw a recording, as far as the browser can. */
async function draw(mine) {
  if (mine.seconds) setLength(mine, mine.seconds);
  if (!player.playable()) soundHint.textContent = NOT_PLAYED;
  const decodedSound = await decoded(mine.file, mine.seconds ?? 0);
  if (shown !== mine) return;
  if (decodedSound) {
    mine.seconds ??= decodedSound.samples.length / decodedSound.rate;
    player.setLength(mine.seconds);
    timeline.setSound(decodedSound, mine.seconds);
    timeline.setWords(mine.words);
  } else if (player.playable()) {
    soundHint.textContent = mine.seconds > 3600 ? TOO_LONG : NOT_DRAWN;
  }
}

function setLength(mine, seconds) {
  mine.seconds = seconds;
  player.setLength(seconds);
  timeline.setLength(seconds);
}

/** End the transcription for another one. */
function abort() {
  controller?.abort();
  controller = null;
  jobs.discard();
}

async function run(keepText, problem = null) {
  abort();
  results.hidden = true;
  if (!options.chosen()) await connect();
  const requested = options.chosen();
  if (!requested) {
    // It can be transcribed when the server is there, or when it knows the key.
    transcript.clear();
    showResults();
    return;
  }
  if (problem) ui.fail(problem);
  else ui.calm();
  const { file, quiet, seconds } = shown;
  await consume((signal) => transcribe(file, { ...requested, quiet }, seconds, signal), keepText);
}

/** Show what comes of a transcription. */
async function consume(begin, keepText) {
  const mine = (controller = new AbortController());
  shown.formats = null;
  const segments = [];
  try {
    for await (const update of begin(mine.signal)) {
      if (controller !== mine) return;
      if (update.segments) {
        segments.push(...update.segments);
        if (!keepText) addSegments(update.segments);
      } else if (update.state) {
        if (!shown.seconds && update.total) setLength(shown, update.total);
        ui.showState(update);
      } else finish(update, segments, keepText);
    }
  } catch (problem) {
    if (controller === mine) stopped(problem, segments, keepText);
  }
  if (controller !== mine) return;
  controller = null;
  ui.idle();
  showResults();
}

function addSegments(segments) {
  transcript.addSegments(segments);
  shown.words.push(...segments.flatMap((segment) => segment.words ?? []));
  timeline.setWords(shown.words);
}

function finish({ text, language, formats }, segments, keepText) {
  const complete = formats.verbose_json;
  // The segments of a job have no speakers before its end.
  const late = complete.segments.some(({ speaker }) => speaker) && !segments.some((one) => one.speaker);
  if (keepText || late) {
    transcript.clear();
    shown.words = [];
    addSegments(late ? speakers.withWords(complete) : segments);
  }
  transcript.settle(text, options.languageCode(language));
  shown.formats = formats;
  offerFiles();
  ui.say("Done.");
}

function offerFiles() {
  if (shown?.formats) downloads.offer(speakers.withNames(shown.formats), shown.name);
}

/** A transcription was cancelled, or has failed: what there is of it stays. */
function stopped(problem, segments, keepText) {
  const cancelled = problem.name === "AbortError";
  ui.say(cancelled ? "Cancelled." : "");
  if (!cancelled) ui.fail(problem);
  if (!cancelled && !problem.needsKey) jobs.discard();
  if (keepText) return;
  if (transcript.current()) {
    downloads.offer(downloads.partial(segments, transcript.current()), shown.name);
    if (cancelled) ui.say(`Cancelled. The text ends at ${clock(segments.at(-1).end)}.`);
    return;
  }
  transcript.clear(cancelled ? "No text yet." : "");
  if (!player.playable()) sound.hidden = true;
}

speakers.onRename(offerFiles);

function showResults() {
  const text = transcript.current() !== "";
  again.hidden = shown.file === null;
  copy.hidden = !text;
  results.hidden = again.hidden && copy.hidden;
}
