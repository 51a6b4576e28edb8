"""Recordings to pieces, and pieces back to recordings.

Recordings are read one after the other as the recognizer asks for pieces; pieces of several
recordings share a batch. One that cannot be read fails by itself and the others go on.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from auris.audio.io import Source
from auris.errors import AurisError
from auris.pieces import Options, Piece
from auris.recognizers import Recognizer
from auris.segments import cleaned
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, Chunk, FinishReason, Segment, Transcript

__all__ = [
    "Batch",
    "Failure",
    "KeptSegments",
    "PieceDone",
    "RecordingDone",
    "Update",
    "no_kept_segments",
    "silence",
]

KeptSegments = Callable[[int, Chunk], Segment | None]
"""Gives the segment that an earlier run, whose options were the same, made of a chunk of a
recording, by the recording's number; None where there is none."""


def no_kept_segments(recording: int, chunk: Chunk) -> Segment | None:
    """The segments of a run that continues nothing."""
    return None


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed, and why."""

    error: AurisError


@dataclass(frozen=True)
class PieceDone:
    """A piece of recording number `recording` is recognized; `index` counts its pieces."""

    recording: int
    index: int
    segment: Segment


@dataclass(frozen=True)
class RecordingDone:
    """Recording number `recording` is finished."""

    recording: int
    result: Transcript | Failure


Update = PieceDone | RecordingDone


@dataclass
class _Recording:
    """A recording under way: its pieces are done in any order."""

    number: int
    peak: float = 0.0
    given: int = 0
    complete: bool = False
    failed: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    heard: dict[str | None, int] = field(default_factory=dict)
    done: dict[int, Segment] = field(default_factory=dict)

    def hear(self, chunk: Chunk) -> None:
        """Count a piece that was read; the channels of a recording run beside each other."""
        before = self.heard.get(chunk.speaker, 0)
        self.heard[chunk.speaker] = before + len(chunk.samples) + chunk.skipped
        self.peak = max(self.peak, chunk.peak, float(np.abs(chunk.samples).max(initial=0.0)))

    def take(self, index: int, segment: Segment, timings: Mapping[str, float]) -> None:
        self.done[index] = segment
        for stage, seconds in timings.items():
            self.timings[stage] = self.timings.get(stage, 0.0) + seconds

    def transcript(self, warnings: tuple[str, ...]) -> Transcript:
        segments = tuple(self.done[index] for index in sorted(self.done))
        chances = [
            chance for s in segments for _, chance in s.word_confidences if chance is not None
        ]
        languages = dict.fromkeys(s.language for s in segments if s.language)
        reasons: list[FinishReason] = [
            s.finish_reason for s in segments if s.finish_reason != "stop"
        ]
        if not self.complete or len(segments) < self.given:
            reasons.insert(0, "cancelled")
        return Transcript(
            text=join_texts(segment.text for segment in segments),
            language=",".join(languages) or None,
            segments=segments,
            confidence=math.fsum(chances) / len(chances) if chances else None,
            finish_reason=reasons[0] if reasons else "stop",
            seconds=max(self.heard.values(), default=0) / SAMPLE_RATE,
            timings=dict(self.timings),
            peak=self.peak,
            warnings=warnings,
        )


class Batch:
    """One run over some recordings.

    Args:
        recognizer: the model.
        read: opens a source and gives its pieces; it may raise AurisError at any of them.
        sources: the recordings.
        options: for every piece.
        kept: segments that need not be recognized again.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        read: Callable[[Source], Iterator[Chunk]],
        sources: Iterable[Source],
        options: Options,
        kept: KeptSegments = no_kept_segments,
    ) -> None:
        self._recognizer = recognizer
        self._read = read
        self._sources = sources
        self._options = options
        self._kept = kept
        self._owners: dict[int, tuple[_Recording, int]] = {}
        self._under_way: dict[int, _Recording] = {}
        self._over: deque[Update] = deque()
        self._keys = 0

    def run(self, rows: int, cancelled: Callable[[], bool]) -> Iterator[Update]:
        """Recognize everything, up to `rows` pieces at once.

        When cancelled, recordings under way end with what they have; others are not begun.
        """
        for result in self._recognizer.recognize(self._pieces(cancelled), rows, cancelled):
            yield from self._drain()
            recording, index = self._owners.pop(result.key)
            if not recording.failed:
                segment = cleaned(result.segment, self._options)
                self._take(recording, index, segment, result.timings)
            yield from self._drain()
        for recording in list(self._under_way.values()):
            self._finish(recording)
        yield from self._drain()

    def _take(
        self, recording: _Recording, index: int, segment: Segment, timings: Mapping[str, float]
    ) -> None:
        """A piece is done, and with it perhaps its recording."""
        recording.take(index, segment, timings)
        self._over.append(PieceDone(recording.number, index, segment))
        if recording.complete and len(recording.done) == recording.given:
            self._finish(recording)

    def _drain(self) -> Iterator[Update]:
        while self._over:
            yield self._over.popleft()

    def _finish(self, recording: _Recording, error: AurisError | None = None) -> None:
        del self._under_way[recording.number]
        warnings = self._options.warnings
        result = recording.transcript(warnings) if error is None else Failure(error)
        self._over.append(RecordingDone(recording.number, result))

    def _pieces(self, cancelled: Callable[[], bool]) -> Iterator[Piece]:
        for number, source in enumerate(self._sources):
            recording = self._under_way[number] = _Recording(number)
            try:
                for chunk in self._chunks(source, recording):
                    index = recording.given
                    recording.given += 1
                    known = silence(chunk) if chunk.skipped else self._kept(number, chunk)
                    if known is not None:
                        self._take(recording, index, known, {})
                        # The recognizer asks before every piece, but there may be none for hours.
                        if cancelled():
                            return
                        continue
                    self._owners[self._keys] = (recording, index)
                    self._keys += 1
                    yield Piece(self._keys - 1, chunk, self._options)
            except AurisError as error:
                recording.failed = True
                self._finish(recording, error)

    def _chunks(self, source: Source, recording: _Recording) -> Iterator[Chunk]:
        """Pieces of a recording; read one ahead, so that the last one is known to be the last."""
        began = time.perf_counter()
        chunks = self._read(source)
        ahead = next(chunks, None)
        while ahead is not None:
            chunk, ahead = ahead, next(chunks, None)
            recording.complete = ahead is None
            recording.hear(chunk)
            spent = time.perf_counter() - began
            recording.timings["audio"] = recording.timings.get("audio", 0.0) + spent
            yield chunk
            began = time.perf_counter()
        recording.complete = True


def silence(chunk: Chunk) -> Segment:
    """The segment of a silence that is left out."""
    seconds = chunk.skipped / SAMPLE_RATE
    start = chunk.start / SAMPLE_RATE
    return Segment(
        start,
        (chunk.start + chunk.skipped) / SAMPLE_RATE,
        "",
        None,
        (),
        (),
        "stop",
        speaker=chunk.speaker,
        no_speech=True,
        skipped=seconds,
    )
