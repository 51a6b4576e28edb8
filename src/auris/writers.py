"""Transcripts, and words with their times, as text, JSON, tables, subtitles and lyrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise

from auris.subtitles import Cue, CueStyle, cues
from auris.text.words import join_texts
from auris.text.wrap import one_line
from auris.types import Transcript, Word

__all__ = [
    "CUE_FORMATS",
    "WHOLE_FILES",
    "WORD_WRITERS",
    "WRITERS",
    "Writer",
    "to_json",
    "to_jsonl",
    "to_lrc",
    "to_srt",
    "to_text",
    "to_tsv",
    "to_vtt",
    "words_to_json",
    "words_to_text",
]

Writer = Callable[[Transcript, str, CueStyle], str]
"""Writes a transcript; the name of its recording and the style of cues are used by some."""

STYLE = CueStyle()
LRC_MARKS = str.maketrans("[]<>", "()\u2039\u203a")
SRT_MARKS = str.maketrans("\\{}", "\u2216()")
ARROW = re.compile(r"-{2,}>")
TAG = re.compile(r"<(?=[/a-zA-Z!])")


def to_text(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """The text alone, on one line: where a model writes line breaks, spaces stand.

    Where speakers are known, each turn has a line, which begins with the speaker's name.
    """
    if not _has_speakers(transcript):
        return " ".join(transcript.text.splitlines()) + "\n"
    said = [segment for segment in transcript.segments if segment.text.strip()]
    turns = (
        _named(speaker, one_line(join_texts(segment.text for segment in turn)))
        for speaker, turn in groupby(said, key=lambda segment: segment.speaker)
    )
    return "".join(f"{turn}\n" for turn in turns) or "\n"


def _has_speakers(transcript: Transcript) -> bool:
    return any(segment.speaker is not None for segment in transcript.segments)


def _named(speaker: str | None, text: str) -> str:
    return text if speaker is None else f"{one_line(speaker)}: {text}"


def to_json(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """One JSON object on one line; `file` names the recording."""
    return _json({"file": name, **transcript.to_dict()})


def to_jsonl(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """One JSON object for each segment, on a line of its own; `file` names the recording."""
    return "".join(_json({"file": name, **segment.to_dict()}) for segment in transcript.segments)


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def to_tsv(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """A table of segments with a heading: times in milliseconds, fields apart by tabs.

    Tabs and line breaks inside a text become spaces; nothing is quoted. Where speakers are known,
    they are a fourth column.
    """
    width = 4 if _has_speakers(transcript) else 3
    table = [("start", "end", "text", "speaker")[:width]]
    for segment in transcript.segments:
        start, end = round(segment.start * 1000), round(segment.end * 1000)
        speaker = one_line(segment.speaker or "")
        table.append((str(start), str(end), one_line(segment.text), speaker)[:width])
    return "".join("\t".join(row) + "\n" for row in table)


def to_srt(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """SubRip subtitles.

    The format has no escapes, so arrows that would read as times are shortened, and the signs that
    begin a tag or a command to the player become others that look alike.
    """
    blocks = []
    for number, cue in enumerate(cues(transcript, style), 1):
        first, *rest = cue.lines
        lines = "\n".join(map(_srt_line, [_named(cue.speaker, first), *rest]))
        blocks.append(f"{number}\n{_span(cue, ',')}\n{lines}\n")
    return "\n".join(blocks)


def _srt_line(line: str) -> str:
    return TAG.sub("\u2039", ARROW.sub("->", line)).translate(SRT_MARKS)


def to_vtt(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """WebVTT subtitles."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript, style):
        lines = "\n".join(map(_vtt_line, cue.lines))
        voice = "" if cue.speaker is None else f"<v {_vtt_line(one_line(cue.speaker))}>"
        blocks.append(f"{_span(cue, '.')}\n{voice}{lines}\n")
    return "\n".join(blocks)


def _vtt_line(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _span(cue: Cue, point: str) -> str:
    return f"{_clock(cue.start, point)} --> {_clock(cue.end, point)}"


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def to_lrc(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """Lyrics: a line for each cue of one line; a line without text where nothing is shown.

    The format has no escapes, so brackets, which would read as times, become others.
    """
    shown = cues(transcript, CueStyle(style.max_line_width, 1))
    lines = [(c.start, _named(c.speaker, c.lines[0]).translate(LRC_MARKS)) for c in shown]
    lines += [(cue.end, "") for cue, after in pairwise(shown) if cue.end < after.start]
    lines += [(cue.end, "") for cue in shown[-1:]]
    return "".join(f"[{_lyric_time(start)}]{text}\n" for start, text in sorted(lines))


def _lyric_time(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds // 10, 6000)
    return f"{minutes:02}:{rest // 100:02}.{rest % 100:02}"


WRITERS: Mapping[str, Writer] = {
    "txt": to_text,
    "json": to_json,
    "jsonl": to_jsonl,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "lrc": to_lrc,
}
"""Writers by format, which is also the file suffix."""

CUE_FORMATS = frozenset({"srt", "vtt", "lrc"})
"""Formats that are made of cues, so that a style matters."""

WHOLE_FILES = CUE_FORMATS | {"tsv"}
"""Formats of which several do not make one when they follow each other."""


def words_to_text(words: Sequence[Word], name: str) -> str:
    """A line for every word: start, end, the word and, where a time was inferred, `repaired`.

    Fields are separated by tabs; a time that is not known is `-`.
    """

    def line(word: Word) -> str:
        times = ("-" if time is None else f"{time:.3f}" for time in (word.start, word.end))
        return "\t".join([*times, word.text, *(["repaired"] if word.repaired else [])]) + "\n"

    return "".join(map(line, words))


def words_to_json(words: Sequence[Word], name: str) -> str:
    """One JSON object on one line; `file` names the recording."""
    content = {"file": name, "words": [word.to_dict() for word in words]}
    return json.dumps(content, ensure_ascii=False) + "\n"


WORD_WRITERS: Mapping[str, Callable[[Sequence[Word], str], str]] = {
    "txt": words_to_text,
    "json": words_to_json,
}
"""Writers of words by format."""
