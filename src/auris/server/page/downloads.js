// The transcript as files.

import { FORMATS } from "./api.js";

const list = document.getElementById("downloads");

/** Remove the files. */
export function clear() {
  for (const link of list.querySelectorAll("a")) URL.revokeObjectURL(link.href);
  list.replaceChildren();
}

/** Offer the formats of a transcript, as files named after the recording. */
export function offer(formats, recording) {
  clear();
  const stem = recording.replace(/\.[^.]*$/, "") || "transcript";
  for (const [format, [ending, kind]] of Object.entries(FORMATS)) {
    const content = formats[format];
    const text = typeof content === "string" ? content : JSON.stringify(content, null, 2);
    const link = document.createElement("a");
    link.className = "button quiet";
    link.href = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
    link.download = `${stem}.${ending}`;
    link.textContent = ending;
    link.setAttribute("aria-label", `Download ${ending}`);
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
}

/** The formats of a transcript that is not complete: subtitles have one cue for each segment. */
export function partial(segments, text) {
  const spoken = segments.filter((segment) => segment.text);
  const cues = (mark) =>
    spoken.map(({ start, end, text }, index) =>
      [index + 1, `${stamp(start, mark)} --> ${stamp(end, mark)}`, text, ""].join("\n"),
    );
  return {
    srt: cues(",").join("\n"),
    vtt: ["WEBVTT\n", ...cues(".")].join("\n"),
    text: `${text}\n`,
    verbose_json: { text, complete: false, segments },
  };
}

function stamp(seconds, mark) {
  const total = Math.round(seconds * 1000);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const [hours, minutes] = [two(total / 3600000), two((total / 60000) % 60)];
  return `${hours}:${minutes}:${two((total / 1000) % 60)}${mark}${String(total % 1000).padStart(3, "0")}`;
}
