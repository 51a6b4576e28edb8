"""Transcripts, and words with their times, as text, JSON, tables, subtitles and lyrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import Protocol

from auris.output.subtitles import Cue, CueStream, CueStyle, cues
from auris.text.words import Joiner
from auris.text.wrap import one_line
from auris.types import Segment, SpeakerTurn, Transcript, Word

STYLE = CueStyle()
LRC_MARKS = str.maketrans("[]<>", "()\u2039\u203a")
SRT_MARKS = str.maketrans("\\{}", "\u2216()")
ARROW = re.compile(r"-{2,}>")
TAG = re.compile(r"<(?=[/a-zA-Z!])")


class Writer(Protocol):
    """Writes a transcript; some formats use the name of its recording or the style of cues."""

    def __call__(self, transcript: Transcript, name: str, style: CueStyle = STYLE) -> str: ...


class SegmentFormatter:
    """Writes a transcript segment by segment, in the order of time; arguments as of `Writer`."""

    def __init__(self, name: str, style: CueStyle = STYLE) -> None:
        self._name = name
        self._style = style
        self._begun = False

    def add(self, segment: Segment) -> str:
        """What can be written when the next segment has come."""
        raise NotImplementedError

    def end(self) -> str:
        """What is left to be written behind the last segment."""
        return ""

    def complete(self, transcript: Transcript) -> str:
        """What is written for a complete transcript."""
        return "".join([*map(self.add, transcript.segments), self.end()])


class _TextWriter(SegmentFormatter):
    """The text alone, on one line; where speakers are known, a line for each turn, which begins
    with the speaker's name. Line breaks of the model become spaces."""

    def __init__(self, name: str, style: CueStyle = STYLE) -> None:
        super().__init__(name, style)
        self._joiner = Joiner()
        self._speaker: str | None = None

    def add(self, segment: Segment) -> str:
        if segment.speaker is None and self._speaker is None:
            self._begun = self._begun or bool(segment.text.strip())
            return self._joiner.push(" ".join(segment.text.splitlines()))
        text = one_line(segment.text)
        if not text:
            return ""
        if self._begun and segment.speaker == self._speaker:
            return self._joiner.push(text)
        before = "\n" if self._begun else ""
        self._begun, self._speaker, self._joiner = True, segment.speaker, Joiner()
        return before + _named(segment.speaker, self._joiner.push(text))

    def end(self) -> str:
        return "\n"

    def complete(self, transcript: Transcript) -> str:
        if not _has_speakers(transcript):
            return " ".join(transcript.text.splitlines()) + "\n"
        return super().complete(transcript)


def _has_speakers(transcript: Transcript) -> bool:
    return any(segment.speaker is not None for segment in transcript.segments)


def _named(speaker: str | None, text: str) -> str:
    return text if speaker is None else f"{one_line(speaker)}: {text}"


class _JsonLinesWriter(SegmentFormatter):
    """One JSON object for each segment, on a line of its own; `file` names the recording."""

    def add(self, segment: Segment) -> str:
        return _json({"file": self._name, **segment.to_dict()})


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


class _TsvWriter(SegmentFormatter):
    """A table of segments with a heading: times in milliseconds, fields separated by tabs.

    Tabs and line breaks inside a text become spaces; nothing is quoted. Where speakers are known,
    they are a fourth column; segment by segment, the first segment decides that.
    """

    _width: int | None = None

    def add(self, segment: Segment) -> str:
        before = self._heading(segment.speaker is not None)
        start, end = round(segment.start * 1000), round(segment.end * 1000)
        row = (str(start), str(end), one_line(segment.text), one_line(segment.speaker or ""))
        return before + self._row(row)

    def end(self) -> str:
        return self._heading(False)

    def complete(self, transcript: Transcript) -> str:
        self._width = 3 + _has_speakers(transcript)
        return super().complete(transcript)

    def _heading(self, speakers: bool) -> str:
        if self._begun:
            return ""
        self._begun = True
        self._width = self._width or 3 + speakers
        return self._row(("start", "end", "text", "speaker"))

    def _row(self, fields: tuple[str, ...]) -> str:
        return "\t".join(fields[: self._width]) + "\n"


class _CueWriter(SegmentFormatter):
    """Subtitles: a block for each cue, with an empty line between two."""

    heading: str | None = None

    def __init__(self, name: str, style: CueStyle = STYLE) -> None:
        super().__init__(name, style)
        self._cues = CueStream(style)
        self._count = 0

    def add(self, segment: Segment) -> str:
        return self._blocks(self._cues.add(segment))

    def end(self) -> str:
        return self._blocks(self._cues.end())

    def complete(self, transcript: Transcript) -> str:
        return self._blocks(cues(transcript, self._style))

    def _blocks(self, shown: Iterable[Cue]) -> str:
        blocks = [] if self.heading is None or self._begun else [self.heading]
        for cue in shown:
            self._count += 1
            blocks.append(self._block(cue))
        before = "\n" if self._begun and blocks else ""
        self._begun = self._begun or bool(blocks)
        return before + "\n".join(blocks)

    def _block(self, cue: Cue) -> str:
        raise NotImplementedError


class _SrtWriter(_CueWriter):
    """SubRip subtitles.

    The format has no escapes, so arrows that would read as times are shortened, and the signs that
    begin a tag or a command to the player become others that look alike.
    """

    def _block(self, cue: Cue) -> str:
        first, *rest = cue.lines
        lines = "\n".join(map(_srt_line, [_named(cue.speaker, first), *rest]))
        return f"{self._count}\n{_span(cue, ',')}\n{lines}\n"


class _VttWriter(_CueWriter):
    """WebVTT subtitles."""

    heading = "WEBVTT\n"

    def _block(self, cue: Cue) -> str:
        lines = "\n".join(map(_vtt_line, cue.lines))
        voice = "" if cue.speaker is None else f"<v {_vtt_line(one_line(cue.speaker))}>"
        return f"{_span(cue, '.')}\n{voice}{lines}\n"


def _srt_line(line: str) -> str:
    return TAG.sub("\u2039", ARROW.sub("->", line)).translate(SRT_MARKS)


def _vtt_line(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _span(cue: Cue, point: str) -> str:
    return f"{_clock(cue.start, point)} --> {_clock(cue.end, point)}"


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _to_lrc(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
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


def _to_json(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """One JSON object on one line; `file` names the recording."""
    return _json({"file": name, **transcript.to_dict()})


def _to_rttm(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
    """NIST's format of speakers: a line for each turn, with its start and length in seconds.

    Without turns by voice, each segment of a speaker with text is one. Fields cannot have spaces.
    """
    turns = transcript.turns
    if turns is None:
        turns = tuple(
            SpeakerTurn(segment.start, segment.end, segment.speaker or "speaker")
            for segment in transcript.segments
            if segment.text.strip()
        )
    file = _field(PurePath(name).stem)
    return "".join(
        f"SPEAKER {file} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> "
        f"{_field(turn.speaker)} <NA> <NA>\n"
        for turn in turns
    )


def _field(text: str) -> str:
    return "_".join(text.split()) or "-"


def _complete(formatter: type[SegmentFormatter]) -> Writer:
    def write(transcript: Transcript, name: str, style: CueStyle = STYLE) -> str:
        return formatter(name, style).complete(transcript)

    return write


SEGMENT_WRITERS: Mapping[str, type[SegmentFormatter]] = {
    "txt": _TextWriter,
    "jsonl": _JsonLinesWriter,
    "tsv": _TsvWriter,
    "srt": _SrtWriter,
    "vtt": _VttWriter,
}
"""By format, what writes a transcript segment by segment."""

WRITERS: Mapping[str, Writer] = {
    "txt": _complete(_TextWriter),
    "json": _to_json,
    "jsonl": _complete(_JsonLinesWriter),
    "srt": _complete(_SrtWriter),
    "vtt": _complete(_VttWriter),
    "tsv": _complete(_TsvWriter),
    "lrc": _to_lrc,
    "rttm": _to_rttm,
}
"""Writers of complete transcripts by format, which is also the file suffix."""

CUE_FORMATS = frozenset({"srt", "vtt", "lrc"})
"""Formats that are made of cues, so that a style matters."""

SINGLE_FILES = CUE_FORMATS | {"tsv"}
"""Formats of which several do not make one when they follow each other."""


def _words_to_text(words: Sequence[Word], name: str) -> str:
    """A line for every word: start, end, the word and, where a time was inferred, `repaired`.

    Fields are separated by tabs; a time that is not known is `-`.
    """
    lines = []
    for word in words:
        times = ("-" if time is None else f"{time:.3f}" for time in (word.start, word.end))
        lines.append("\t".join([*times, word.text, *(["repaired"] if word.repaired else [])]))
    return "".join(f"{line}\n" for line in lines)


def _words_to_json(words: Sequence[Word], name: str) -> str:
    """One JSON object on one line; `file` names the recording."""
    return _json({"file": name, "words": [word.to_dict() for word in words]})


WORD_WRITERS: Mapping[str, Callable[[Sequence[Word], str], str]] = {
    "txt": _words_to_text,
    "json": _words_to_json,
}
"""Writers of words by format."""
