// The transcript as files.

const list = document.getElementById("downloads");

const FILES = [
  ["srt", "srt", "application/x-subrip"],
  ["vtt", "vtt", "text/vtt"],
  ["text", "txt", "text/plain"],
  ["verbose_json", "json", "application/json"],
];

/** Take files back. */
export function clear() {
  for (const link of list.querySelectorAll("a")) URL.revokeObjectURL(link.href);
  list.replaceChildren();
}

/** Offer the formats of a transcript, as files named after the recording. */
export function offer(formats, recording) {
  clear();
  const stem = recording.replace(/\.[^.]*$/, "") || "transcript";
  for (const [format, ending, kind] of FILES) {
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
