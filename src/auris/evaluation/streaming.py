"""Live streams against files: equality of the texts, cost early and late, lag of stable text.

Words of a piece are taken to be spread evenly over it. A word's lag is the time from its end to the
step that made it stable, in seconds of audio: what a listener waits beside the computation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from auris.diagnostics.parity import TIE_MARGIN, Verdict, first_difference
from auris.errors import UsageError
from auris.evaluation.loading import resident_gb
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.streaming.decoder import StepCost
from auris.streaming.session import LIVE_CHUNK_SECONDS, StreamSession, StreamUpdate
from auris.types import SAMPLE_RATE, Chunk, Samples, Segment, Transcript

__all__ = [
    "ClipsScore",
    "StreamScore",
    "compare_clips",
    "compare_segments",
    "feeds",
    "score_stream",
]


@dataclass(frozen=True)
class StreamScore:
    """One recording as a stream and as a file.

    Attributes:
        name: the recording.
        seconds: its length.
        steps, pieces: how many there were.
        verdict: whether stream and file say the same: "identical", "tie" or "different".
        early_seconds, late_seconds: median time of a step in the first and in the last fifth.
        ratio: late beside early.
        early_gb, late_gb: resident memory at the end of the first fifth and at the last step.
        lag_seconds: median lag of the words; None without words.
        busy: share of the time of the recording that was spent on it.
        frames, encoded, decoded: medians of what a step computed, see `StepCost`.
    """

    name: str
    seconds: float
    steps: int
    pieces: int
    verdict: Verdict
    early_seconds: float
    late_seconds: float
    ratio: float
    early_gb: float
    late_gb: float
    lag_seconds: float | None
    busy: float
    frames: float
    encoded: float
    decoded: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ClipsScore:
    """Clips as streams and as files.

    Attributes:
        clips: how many were compared.
        identical: how many say the same both ways.
        ties: how many do but for a tie.
        different: names of those that do not.
    """

    clips: int
    identical: int
    ties: int
    different: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare_segments(ours: Sequence[Segment], theirs: Sequence[Segment]) -> Verdict:
    """Whether two transcripts of a recording agree under the tie rule.

    Where tokens differ, both are the best of the same scores but for rounding, so the difference of
    their log-probabilities tells how near they are. A text that goes on where the other one stops
    counts as different, since the chance of stopping is not known.
    """
    if [(s.start, s.end) for s in ours] != [(s.start, s.end) for s in theirs]:
        return "different"
    verdict: Verdict = "identical"
    for mine, other in zip(ours, theirs, strict=True):
        place = first_difference(mine.tokens, other.tokens)
        if place is None:
            if (mine.text, mine.language) != (other.text, other.language):
                return "different"
            continue
        if place >= min(len(mine.tokens), len(other.tokens)):
            return "different"
        if abs(mine.logprobs[place] - other.logprobs[place]) >= TIE_MARGIN:
            return "different"
        verdict = "tie"
    return verdict


def lags(updates: Sequence[StreamUpdate]) -> list[float]:
    """The lag of every word of stable updates, in seconds."""
    found = []
    for update in updates:
        segment = update.segment
        words = len(segment.text.split())
        for number in range(1, words + 1):
            end = segment.start + (segment.end - segment.start) * number / words
            found.append(update.seconds - end)
    return found


def feeds(given: str) -> list[float]:
    """Seconds that are fed at once, from a list by commas.

    Raises:
        UsageError: one is no positive number.
    """
    try:
        sizes = [float(size) for size in given.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(0.0 < size <= 3600.0 for size in sizes):
        raise UsageError(
            "--feed-seconds has to be positive numbers, by commas",
            f"it is {given!r}",
            "write something like 0.01,5",
        )
    return sizes


def score_stream(
    pipeline: AsrPipeline, source: str, feed_seconds: Sequence[float], **options: Any
) -> StreamScore:
    """Hear a recording as a stream and as a file.

    Args:
        pipeline: the model.
        source: path or address of the recording.
        feed_seconds: sizes of what is fed at once, one after the other and again.
        options: of the stream, see `auris.pipeline.StreamOptions`; not its rate.

    Raises:
        AurisError: the recording cannot be read.
    """
    heard = _PacedStream()
    session = pipeline.stream(**options)
    for block in _blocks(AudioChunker().chunks(source), feed_seconds):
        began = time.perf_counter()
        updates = session.feed(block)
        heard.take(updates, time.perf_counter() - began)
    heard.take(session.finish(), None)
    whole = pipeline.transcribe(source, **_file_options(options))
    return heard.score(source, whole)


@dataclass
class _Clip:
    """A clip that is being heard."""

    file: Path
    blocks: Iterator[Samples]
    segments: list[Segment] = field(default_factory=list)


def compare_clips(
    pipeline: AsrPipeline,
    files: Sequence[Path],
    feed_seconds: Sequence[float],
    streams: int = 1,
    **options: Any,
) -> ClipsScore:
    """Hear clips as streams, several at once, and each as a file.

    Args:
        pipeline: the model.
        files: the clips; the next one begins when one ends.
        feed_seconds, options: see `score_stream`.
        streams: how many are heard at once, in one pool.

    Raises:
        AurisError: a clip cannot be read.
    """
    pool, waiting = pipeline.streams(streams), iter(files)
    heard: dict[StreamSession, _Clip] = {}
    verdicts: list[tuple[Path, Verdict]] = []
    whole = _file_options(options)
    while len(verdicts) < len(files):
        for file in islice(waiting, streams - len(heard)):
            blocks = _blocks(AudioChunker().chunks(str(file)), feed_seconds)
            heard[pipeline.stream(pool=pool, **options)] = _Clip(file, blocks)
        ended = []
        for session, clip in heard.items():
            block = next(clip.blocks, None)
            if block is None:
                session.push_end()
                ended.append(session)
            else:
                session.push(block)
        pool.work()
        for session, clip in heard.items():
            clip.segments += [update.segment for update in session.updates() if update.final]
        for session in ended:
            clip = heard.pop(session)
            theirs = pipeline.transcribe(str(clip.file), **whole).segments
            verdicts.append((clip.file, compare_segments(clip.segments, theirs)))
    found = [verdict for _, verdict in verdicts]
    different = tuple(str(file) for file, verdict in verdicts if verdict == "different")
    return ClipsScore(len(found), found.count("identical"), found.count("tie"), different)


def _file_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a file that is cut as a stream with these is."""
    own = {name: value for name, value in options.items() if name != "step_seconds"}
    return {"chunk_seconds": LIVE_CHUNK_SECONDS, "vad": False, **own}


class _PacedStream:
    """What is noted while a stream is heard."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.waited: list[float] = []
        self.times: list[float] = []
        self.costs: list[StepCost] = []
        self.sizes: list[float] = []
        self._spent = 0.0

    def take(self, updates: Sequence[StreamUpdate], spent: float | None) -> None:
        """Note the updates of one feed; several steps count as that many of the same length."""
        stable = [update for update in updates if update.final]
        self.segments += [update.segment for update in stable]
        self.waited += lags(stable)
        costs = [update.cost for update in updates if not update.final]
        self.costs += costs
        self._spent += spent or 0.0
        if spent is not None and costs:
            self.times += [self._spent / len(costs)] * len(costs)
            self._spent = 0.0
        self.sizes += [resident_gb()] * len(costs)

    def score(self, name: str, whole: Transcript) -> StreamScore:
        """All of it beside the transcript of the file."""
        fifth = max(len(self.times) // 5, 1)
        early, late = _median(self.times[:fifth]), _median(self.times[-fifth:])
        return StreamScore(
            name=name,
            seconds=whole.seconds,
            steps=len(self.costs),
            pieces=len(self.segments),
            verdict=compare_segments(self.segments, whole.segments),
            early_seconds=early,
            late_seconds=late,
            ratio=late / early if early else 1.0,
            early_gb=_median(self.sizes[fifth - 1 : fifth]),
            late_gb=_median(self.sizes[-1:]),
            lag_seconds=statistics.median(self.waited) if self.waited else None,
            busy=sum(self.times) / whole.seconds,
            frames=_median([cost.frames for cost in self.costs]),
            encoded=_median([cost.encoded for cost in self.costs]),
            decoded=_median([cost.decoded for cost in self.costs]),
        )


def _blocks(pieces: Iterable[Chunk], seconds: Sequence[float]) -> Iterator[Samples]:
    """The samples of pieces that follow each other, in blocks of some lengths."""
    sizes = cycle(max(round(length * SAMPLE_RATE), 1) for length in seconds)
    wanted, waiting = next(sizes), np.empty(0, np.float32)
    for piece in pieces:
        waiting = np.concatenate((waiting, piece.samples))
        place = 0
        while len(waiting) - place >= wanted:
            yield waiting[place : place + wanted]
            place, wanted = place + wanted, next(sizes)
        waiting = waiting[place:]
    if len(waiting):
        yield waiting


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
