"""Recordings to chunks, and segments back to recordings: the one driver of transcription.

Recordings are read one after the other, whenever the batch has room for another chunk, so chunks of
several recordings share a batch. A recording that cannot be read fails alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from auris.audio.io import Source
from auris.errors import AurisError
from auris.recognition.recognizer import ChunkBatch
from auris.recognition.requests import ChunkRequest, DecodeOptions
from auris.text.words import join_texts
from auris.types import QUIET_PEAK, SAMPLE_RATE, SILENT_PEAK, Chunk, Segment, Transcript


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed, and why."""

    error: AurisError


@dataclass(frozen=True)
class SegmentDone:
    """A segment of a recording; `index` counts them, in the order of time."""

    recording: int
    index: int
    segment: Segment


@dataclass(frozen=True)
class RecordingDone:
    """The end of a recording."""

    recording: int
    result: Transcript | Failure


Update = SegmentDone | RecordingDone


def segments_of(updates: Iterator[Update]) -> Iterator[Segment]:
    """The segments of one recording; raises its error where it fails."""
    for update in updates:
        if isinstance(update, SegmentDone):
            yield update.segment
        elif isinstance(update.result, Failure):
            raise update.result.error


def reporting(updates: Iterator[Update], report: Callable[[Segment], None]) -> Iterator[Update]:
    """The same updates; `report` is called with each segment before it is given."""
    for update in updates:
        if isinstance(update, SegmentDone):
            report(update.segment)
        yield update


KnownSegments = Callable[[int, Chunk], Segment | None]
"""Looks up the segment that an earlier run, with the same model and options, made of a chunk of the
recording with this number."""


@dataclass(frozen=True)
class Progress:
    """Seconds of audio (of all channels, where they are split), segments and recordings so far."""

    seconds: float
    segments: int
    recordings: int

    def after(self, update: Update) -> Progress:
        """The progress after one more update."""
        if isinstance(update, RecordingDone):
            return replace(self, recordings=self.recordings + 1)
        seconds = self.seconds + update.segment.end - update.segment.start
        return replace(self, seconds=seconds, segments=self.segments + 1)


@dataclass
class _Recording:
    """A recording that was begun. Its chunks are finished in any order."""

    number: int
    peak: float = 0.0
    chunks: int = 0
    reported: int = 0
    complete: bool = False
    error: AurisError | None = None
    timings: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    samples: Counter[str | None] = field(default_factory=Counter)
    segments: dict[int, Segment] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add_chunk(self, chunk: Chunk) -> int:
        """Count a chunk; returns its index. Samples are counted for each channel."""
        self.warnings += chunk.warnings
        self.samples[chunk.speaker] += len(chunk.samples) + chunk.skipped
        self.peak = max(self.peak, chunk.peak, float(np.abs(chunk.samples).max(initial=0.0)))
        self.chunks += 1
        return self.chunks - 1

    def add_segment(self, index: int, segment: Segment, timings: Mapping[str, float]) -> None:
        self.segments[index] = segment
        for stage, seconds in timings.items():
            self.timings[stage] += seconds

    def in_order(self) -> Iterator[SegmentDone]:
        """Segments that were not reported yet, up to the first that is missing."""
        while self.reported in self.segments:
            yield SegmentDone(self.number, self.reported, self.segments[self.reported])
            self.reported += 1

    def rest(self) -> Iterator[SegmentDone]:
        """Segments behind one that is missing, of a recording that was cancelled."""
        for index in sorted(self.segments):
            if index >= self.reported:
                yield SegmentDone(self.number, index, self.segments[index])

    def transcript(self, warnings: tuple[str, ...]) -> Transcript:
        segments = [self.segments[index] for index in sorted(self.segments)]
        cancelled = not self.complete or len(segments) < self.chunks
        seconds = max(self.samples.values(), default=0) / SAMPLE_RATE
        joined = joined_transcript(segments, seconds, self.peak, (*warnings, *self.warnings))
        return replace(
            joined,
            finish_reason="cancelled" if cancelled else joined.finish_reason,
            timings=dict(self.timings),
        )


def joined_transcript(
    segments: Sequence[Segment], seconds: float, peak: float, warnings: tuple[str, ...]
) -> Transcript:
    """The transcript of the segments of a recording, in the order of time."""
    words = [pair for segment in segments for pair in segment.word_confidences]
    confidences = [confidence for _, confidence in words if confidence is not None]
    languages = dict.fromkeys(s.language for s in segments if s.language)
    reasons = [s.finish_reason for s in segments if s.finish_reason != "stop"]
    if SILENT_PEAK <= peak < QUIET_PEAK:
        quiet = (
            f"The recording is very quiet, its largest sample is {peak:.4f} of full "
            "scale: the text may be wrong; record it closer or louder"
        )
        warnings = (*warnings, quiet)
    return Transcript(
        text=join_texts(segment.text for segment in segments),
        language=",".join(languages) or None,
        segments=tuple(segments),
        confidence=math.fsum(confidences) / len(confidences) if confidences else None,
        finish_reason=reasons[0] if reasons else "stop",
        seconds=seconds,
        peak=peak,
        warnings=warnings,
    )


class Scheduler:
    """One run over some recordings.

    Args:
        batch: recognizes the chunks.
        read: opens a source and yields its chunks; it may raise AurisError at any of them.
        options: for every chunk.
        known: looks up segments of chunks that need not be recognized again.
        report: called after every segment and every recording.
    """

    def __init__(
        self,
        batch: ChunkBatch,
        read: Callable[[Source], Iterator[Chunk]],
        sources: Iterable[Source],
        options: DecodeOptions,
        known: KnownSegments | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self._batch = batch
        self._read = read
        self._sources = sources
        self._options = options
        self._known = known
        self._report = report
        self._progress = Progress(0.0, 0, 0)
        self._requests: dict[int, tuple[_Recording, int]] = {}
        self._active: dict[int, _Recording] = {}
        self._updates: deque[Update] = deque()
        self._keys = 0

    def run(self, cancelled: Callable[[], bool]) -> Iterator[Update]:
        """Recognize everything.

        When cancelled, recordings that were begun end with what they have; others are not begun.
        """
        try:
            chunks = self._chunks()
            reading = True
            while not cancelled():
                while reading and self._batch.has_room() and not cancelled():
                    following = next(chunks, None)
                    reading = following is not None
                    if following is not None:
                        self._submit(*following)
                    yield from self._new_updates()
                if not reading and not self._batch.pending:
                    break
                for result in self._batch.step():
                    recording, index = self._requests.pop(result.key)
                    self._add(recording, index, result.segment, result.timings)
                yield from self._new_updates()
            self._end()
            yield from self._new_updates()
        finally:
            self._batch.cancel()  # Also where the caller stops early.

    def _new_updates(self) -> list[Update]:
        """Updates since the last call; they are reported, too."""
        updates = list(self._updates)
        self._updates.clear()
        if self._report is not None:
            for update in updates:
                self._progress = self._progress.after(update)
                self._report(self._progress)
        return updates

    def _chunks(self) -> Iterator[tuple[_Recording, int, Chunk]]:
        """Chunks of all recordings. One chunk is read ahead, so that the last one is known."""
        for number, source in enumerate(self._sources):
            recording = self._active[number] = _Recording(number)
            began = time.perf_counter()
            chunks = self._until_error(recording, source)
            ahead = next(chunks, None)
            while ahead is not None:
                chunk, ahead = ahead, next(chunks, None)
                if ahead is not None and not ahead.skipped and not len(ahead.samples):
                    recording.warnings += ahead.warnings
                    ahead = next(chunks, None)
                recording.complete = ahead is None
                recording.timings["audio"] += time.perf_counter() - began
                yield recording, recording.add_chunk(chunk), chunk
                began = time.perf_counter()
            recording.complete = True
            if recording.error is not None and not recording.chunks:
                self._finish(recording)

    def _until_error(self, recording: _Recording, source: Source) -> Iterator[Chunk]:
        """The chunks of a source up to its end, or up to an error, which the recording gets."""
        try:
            yield from self._read(source)
        except AurisError as error:
            recording.error = error

    def _submit(self, recording: _Recording, index: int, chunk: Chunk) -> None:
        """Request a chunk, unless its segment is known already."""
        segment = silent_segment(chunk) if chunk.skipped else None
        if segment is None and self._known is not None:
            segment = self._known(recording.number, chunk)
        if segment is not None:
            self._add(recording, index, segment, {})
            return
        self._requests[self._keys] = recording, index
        self._batch.add(ChunkRequest(self._keys, chunk, self._options))
        self._keys += 1

    def _add(
        self, recording: _Recording, index: int, segment: Segment, timings: Mapping[str, float]
    ) -> None:
        recording.add_segment(index, segment, timings)
        self._updates.extend(recording.in_order())
        if recording.complete and len(recording.segments) == recording.chunks:
            self._finish(recording)

    def _finish(self, recording: _Recording) -> None:
        del self._active[recording.number]
        result: Transcript | Failure
        if recording.error is None:
            result = recording.transcript(self._options.warnings)
        else:
            result = Failure(recording.error)
        self._updates.append(RecordingDone(recording.number, result))

    def _end(self) -> None:
        """End the work and the recordings that are not finished."""
        for result in self._batch.cancel():
            recording, index = self._requests.pop(result.key)
            recording.add_segment(index, result.segment, result.timings)
        for recording in list(self._active.values()):
            self._updates.extend(recording.in_order())
            self._updates.extend(recording.rest())
            self._finish(recording)


def silent_segment(chunk: Chunk) -> Segment:
    """The segment of a silence that was skipped."""
    return Segment(
        start=chunk.start / SAMPLE_RATE,
        end=(chunk.start + chunk.skipped) / SAMPLE_RATE,
        text="",
        language=None,
        tokens=(),
        logprobs=(),
        finish_reason="stop",
        speaker=chunk.speaker,
        no_speech=True,
        skipped=chunk.skipped / SAMPLE_RATE,
    )
