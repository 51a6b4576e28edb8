"""Transcripts with speakers: the samples of the chunks are diarized while they are read, and the
segments of a recording get their speakers when all of it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from auris.audio.io import Source
from auris.diarization.diarizer import DiarizationSession, Diarizer, SpeakerCount
from auris.diarization.labels import labelled
from auris.recognition.scheduler import Failure, RecordingDone, SegmentDone, Update
from auris.text.tokenizer import Tokenizer
from auris.types import Chunk, Segment, Transcript

UNDIVIDED = (
    "Segments are not divided where the speaker changes, since this model has no times of words: "
    "each has the speaker who speaks longest in it; name an aligner (--aligner), or cut shorter "
    "chunks (--chunk-seconds)."
)

ReadChunks = Callable[[Source], Iterator[Chunk]]


class SpeakerLabels:
    """Labels the segments of a run of the scheduler.

    Args:
        count: how many speakers each recording has.
        words: whether segments show the times of their words.
    """

    def __init__(
        self, diarizer: Diarizer, count: SpeakerCount, tokenizer: Tokenizer, words: bool
    ) -> None:
        diarizer.check(count)
        self._diarizer, self._count = diarizer, count
        self._tokenizer, self._words = tokenizer, words
        self._sessions: dict[int, DiarizationSession] = {}
        self._begun = 0

    def reading(self, read: ReadChunks) -> ReadChunks:
        """A reader whose chunks are diarized, too. It is called for each recording in order."""

        def chunks(source: Source) -> Iterator[Chunk]:
            session = self._sessions[self._begun] = self._diarizer.session(self._count)
            self._begun += 1
            for chunk in read(source):
                session.feed(chunk.start, chunk.samples)
                yield chunk

        return chunks

    def labelled(self, updates: Iterable[Update]) -> Iterator[Update]:
        """The updates; segments come when their recording is complete."""
        waiting: dict[int, list[Segment]] = {}
        for update in updates:
            if isinstance(update, SegmentDone):
                waiting.setdefault(update.recording, []).append(update.segment)
                continue
            segments, result = self._result(update, waiting.pop(update.recording, []))
            for index, segment in enumerate(segments):
                yield SegmentDone(update.recording, index, segment)
            yield RecordingDone(update.recording, result)

    def _result(
        self, done: RecordingDone, segments: list[Segment]
    ) -> tuple[list[Segment], Transcript | Failure]:
        session = self._sessions.pop(done.recording, None)
        if session is None:
            return segments, done.result
        turns = session.finish()
        parts = labelled(segments, turns, self._tokenizer, self._words)
        if isinstance(done.result, Failure):
            return parts, done.result
        warnings = (*done.result.warnings, *session.warnings)
        result = replace(done.result, segments=tuple(parts), turns=tuple(turns), warnings=warnings)
        return parts, result
