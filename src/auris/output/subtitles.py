"""Cues: a transcript as short texts with times, for the screen.

If a segment has words with times, its cues follow them. Otherwise its text is spread evenly over
the segment, letter by letter, so the times are rough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from auris.errors import UsageError
from auris.text.wrap import Break, Unit, one_line, rows, units, wrap
from auris.types import Segment, Transcript

LEAST_SECONDS = 1.0
"""A cue is shown at least this long, unless the next one begins earlier."""

MOST_SECONDS = 7.0
"""A longer cue is cut, down to one line; if its words have times, it ends after this time."""

PAUSE_SECONDS = 1.0
"""A cue ends at a silence of this length between two words."""

WIDTHS, COUNTS = (10, 1000), (1, 10)
"""Possible widths of a line and numbers of lines."""


@dataclass(frozen=True)
class CueStyle:
    """How much text a cue holds.

    Attributes:
        max_line_width: columns of a line, 10 to 1000; East Asian wide letters take two.
        max_line_count: lines of a cue, 1 to 10.

    Raises:
        UsageError: one is out of range.
    """

    max_line_width: int = 42
    max_line_count: int = 2

    def __post_init__(self) -> None:
        for name, value, (least, most) in (
            ("max_line_width", self.max_line_width, WIDTHS),
            ("max_line_count", self.max_line_count, COUNTS),
        ):
            if type(value) is not int or not least <= value <= most:
                raise UsageError(
                    f"{name} has to be a whole number from {least} to {most}",
                    f"it is {value!r}",
                    "correct it",
                )


@dataclass(frozen=True)
class Cue:
    """Text that is shown together; `start` and `end` are whole milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]
    speaker: str | None = None


@dataclass(frozen=True)
class _Spoken:
    """A unit of text and its time in seconds."""

    unit: Unit
    start: float
    end: float


def cues(transcript: Transcript, style: CueStyle) -> list[Cue]:
    """The cues of a transcript: none is empty, and none overlaps the next.

    They end at the ends of sentences, else of clauses, else between words; never inside a word
    that is not wider than a line.
    """
    drafts = [draft for segment in transcript.segments for draft in _drafts(segment, style)]
    drafts.sort(key=attrgetter("start"))
    return _placed(drafts, max((_ms(s.end) for s in transcript.segments), default=0))


class CueStream:
    """Cues of segments that are added one after the other, in the order of their starts.

    A cue is returned as soon as no later segment can change it. All of them together are the cues
    of the transcript.
    """

    def __init__(self, style: CueStyle) -> None:
        self._style = style
        self._drafts: list[Cue] = []
        self._end = 0

    def add(self, segment: Segment) -> list[Cue]:
        """Add a segment; returns the cues that are now final."""
        self._drafts += _drafts(segment, self._style)
        self._drafts.sort(key=attrgetter("start"))
        self._end = max(self._end, _ms(segment.end))
        # Segments of one speaker do not overlap, those of several may.
        horizon = _ms(segment.end if segment.speaker is None else segment.start)
        final: list[Cue] = []
        groups = list(_groups(self._drafts))
        for group, following in zip(groups, [*groups[1:], None], strict=False):
            if following is not None and following[0].start <= horizon:
                final += _fitted(group, following[0].start)
            elif _shown_until(group) <= horizon:
                final += _fitted(group, horizon)
            else:
                break
        self._drafts = self._drafts[len(final) :]
        return final

    def end(self) -> list[Cue]:
        """The remaining cues, after the last segment."""
        return _placed(self._drafts, self._end)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _drafts(segment: Segment, style: CueStyle) -> Iterator[Cue]:
    text = one_line(segment.text)
    spoken = _timed(units(text, style.max_line_width), text, segment)
    parts = [part for sentence in _sentences(spoken) for part in _fitting(sentence, style)]
    for part in _without_slivers(parts, style):
        start, end = part[0].start, part[-1].end
        if segment.words:
            end = min(end, start + MOST_SECONDS)
        lines = wrap([one.unit for one in part], style.max_line_width)
        yield Cue(_ms(start), _ms(end), tuple(lines), segment.speaker)


def _timed(parts: Sequence[Unit], text: str, segment: Segment) -> list[_Spoken]:
    """Units with their times: those of their words, or shares of the time between such."""
    known = _known_times(parts, text, segment)
    spoken: list[_Spoken] = []
    index, before = 0, segment.start
    while index < len(parts):
        times = known[index]
        if times is not None:
            spoken.append(_Spoken(parts[index], *times))
            index += 1
        else:
            stop = next((i for i in range(index, len(parts)) if known[i]), len(parts))
            following = known[stop] if stop < len(parts) else None
            until = following[0] if following else max(segment.end, before)
            spoken += _spread(parts[index:stop], before, until)
            index = stop
        before = spoken[-1].end
    return spoken


def _known_times(
    parts: Sequence[Unit], text: str, segment: Segment
) -> list[tuple[float, float] | None]:
    """For each unit the time of the words with which it shares letters, in rising order."""
    known: list[tuple[float, float] | None] = [None] * len(parts)
    offset, first, latest = 0, 0, segment.start
    for word in segment.words or ():
        letters = one_line(word.text)
        at = text.find(letters, offset)
        if at < 0 or not letters or word.start is None or word.end is None:
            continue
        offset = at + len(letters)
        start = max(word.start, latest)
        latest = max(word.end, start)
        while parts[first].end <= at:
            first += 1
        for index in range(first, len(parts)):
            if parts[index].start >= offset:
                break
            already = known[index]
            known[index] = (already[0] if already else start, latest)
    return known


def _spread(parts: Sequence[Unit], start: float, end: float) -> list[_Spoken]:
    """Divide a span among units by their numbers of letters."""
    total = sum(len(unit.text) for unit in parts)
    spoken, done = [], 0
    for unit in parts:
        begin = start + (end - start) * done / total
        done += len(unit.text)
        spoken.append(_Spoken(unit, begin, start + (end - start) * done / total))
    return spoken


def _sentences(spoken: Sequence[_Spoken]) -> Iterator[list[_Spoken]]:
    """Parts that end at the end of a sentence or before a pause."""
    part: list[_Spoken] = []
    for one in spoken:
        if part and one.start - part[-1].end >= PAUSE_SECONDS:
            yield part
            part = []
        part.append(one)
        if one.unit.after is Break.SENTENCE:
            yield part
            part = []
    if part:
        yield part


def _fitting(part: list[_Spoken], style: CueStyle) -> Iterator[list[_Spoken]]:
    """Parts of a sentence that fit into one cue each."""
    while part:
        # Text after the next few cues has no effect; without it long texts do not take long.
        near = part[: 4 * style.max_line_width * style.max_line_count]
        most = _longest(near, style)
        cut = most if most == len(part) else _best_cut(near, most)
        yield part[:cut]
        part = part[cut:]


def _longest(part: Sequence[_Spoken], style: CueStyle) -> int:
    """The number of units that fit into a cue, by its lines and its time."""
    lines = rows([one.unit for one in part], style.max_line_width)
    fit = sum(len(line) for line in lines[: style.max_line_count])
    in_time = sum(one.end - part[0].start <= MOST_SECONDS for one in part)
    return min(fit, max(in_time, len(lines[0])))


def _best_cut(part: Sequence[_Spoken], most: int) -> int:
    """Where to cut a text that does not fit: after a clause, or so that the cues are even."""
    widths, done = [], 0
    for one in part:
        done += one.unit.width + one.unit.spaced
        widths.append(done)
    room = widths[most - 1]
    target = done / -(-done // room)
    late = [cut for cut in range(1, most + 1) if 2 * widths[cut - 1] >= room]
    return max(late, key=lambda cut: (part[cut - 1].unit.after, -abs(widths[cut - 1] - target)))


def _without_slivers(parts: Sequence[list[_Spoken]], style: CueStyle) -> Iterator[list[_Spoken]]:
    """Join a part that is too short with the next one, if both fit into a cue."""
    joined: list[_Spoken] = []
    for part in parts:
        both = [*joined, *part]
        short = bool(joined) and joined[-1].end - joined[0].start < LEAST_SECONDS
        near = bool(joined) and part[0].start - joined[-1].end < PAUSE_SECONDS
        if short and near and _longest(both, style) == len(both):
            joined = both
            continue
        if joined:
            yield joined
        joined = part
    if joined:
        yield joined


def _least_time(draft: Cue) -> int:
    """Milliseconds that a cue is shown before the next one replaces it."""
    return max(1, min(round(LEAST_SECONDS * 1000), draft.end - draft.start))


def _groups(drafts: Sequence[Cue]) -> Iterator[list[Cue]]:
    """Cues, by start, that delay each other; a group ends before the next one begins."""
    group: list[Cue] = []
    free = 0
    for draft in drafts:
        if group and draft.start >= free:
            yield group
            group = []
        free = (free if group else draft.start) + _least_time(draft)
        group.append(draft)
    if group:
        yield group


def _shown_until(group: Sequence[Cue]) -> int:
    """When a group ends, if nothing follows it."""
    last = group[0].start + sum(map(_least_time, group[:-1]))
    return max(group[-1].end, last + round(LEAST_SECONDS * 1000))


def _placed(drafts: Sequence[Cue], end: int) -> list[Cue]:
    """Fit cues, by start, to each other: they do not overlap, and they end by `end`."""
    groups = list(_groups(drafts))
    limits = [group[0].start for group in groups[1:]]
    if groups:
        limits.append(max(end, groups[-1][0].start + len(groups[-1])))
    return [
        cue for group, limit in zip(groups, limits, strict=True) for cue in _fitted(group, limit)
    ]


def _fitted(group: Sequence[Cue], end: int) -> list[Cue]:
    """Fit the cues of a group to each other and into the time until `end`.

    If speakers overlap, the later cue waits until the earlier one was shown for a second.
    """
    first, least = group[0].start, round(LEAST_SECONDS * 1000)
    times = list(map(_least_time, group))
    if sum(times) > end - first:
        times = [min(time, (end - first) // len(group)) for time in times]
    starts = []
    free = first
    for draft, time in zip(group, times, strict=True):
        starts.append(max(draft.start, free))
        free = starts[-1] + time
    limit = end
    for index in reversed(range(len(group))):
        starts[index] = limit = min(starts[index], limit - times[index])
    return [
        replace(draft, start=start, end=min(max(draft.end, start + least), following))
        for start, following, draft in zip(starts, [*starts[1:], end], group, strict=True)
    ]
