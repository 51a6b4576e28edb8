"""Recordings to chunks and back, with a recognizer that only counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.errors import UnreadableAudio
from auris.recognition.requests import ChunkRequest, DecodeOptions
from auris.recognition.scheduler import (
    Failure,
    KnownSegments,
    RecordingDone,
    Scheduler,
    SegmentDone,
    Update,
)
from auris.types import Chunk, Segment, Transcript
from tests.recognition.batches import ScriptedBatch

SECOND = 16_000


def counted(request: ChunkRequest, reason: str) -> Segment:
    """A segment with the number of its chunk."""
    start = request.chunk.start / SECOND
    number = int(request.chunk.samples[0])
    return Segment(
        start,
        start + len(request.chunk.samples) / SECOND,
        f"w{number}",
        "English" if number % 2 else "French",
        (number,),
        (-1.0,),
        reason,
        word_confidences=((f"w{number}", 0.5 + 0.1 * number), ("?", None)),
    )


def counting(rows: int = 1, order: Iterable[int] = (0,)) -> ScriptedBatch:
    """A batch that finishes its chunks in a different order."""
    return ScriptedBatch(counted, rows, order)


@dataclass(frozen=True)
class Recording:
    """A source with some chunks of one second, and possibly an error after them."""

    number: int
    chunks: int
    broken: bool = False


def read(source: Recording) -> Iterator[Chunk]:
    for index in range(source.chunks):
        samples = np.full(SECOND, 10 * source.number + index, np.float32)
        yield Chunk(index * SECOND, samples)
    if source.broken:
        raise UnreadableAudio("A file has to be whole", f"number {source.number} is not", "mend it")


def run(
    recordings: list[Recording],
    batch: ScriptedBatch | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Update]:
    scheduler = Scheduler(batch or counting(), read, recordings, DecodeOptions())
    return list(scheduler.run(cancelled))


def results(updates: list[Update]) -> dict[int, Transcript | Failure]:
    found: dict[int, Transcript | Failure] = {}
    for update in updates:
        if isinstance(update, RecordingDone):
            assert update.recording not in found, "a recording is finished twice"
            found[update.recording] = update.result
        else:
            assert update.recording not in found, "a chunk after its recording's end"
    return found


cases = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6)


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(1, 4), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_every_recording_gets_its_own_segments(
    cases: list[tuple[int, bool]], rows: int, order: list[int]
) -> None:
    recordings = [Recording(number, *case) for number, case in enumerate(cases)]
    updates = run(recordings, counting(rows, order))
    found = results(updates)
    assert sorted(found) == list(range(len(cases)))
    for recording in recordings:
        result = found[recording.number]
        if recording.broken:
            assert isinstance(result, Failure)
            assert f"number {recording.number}" in str(result.error)
        wanted = [10 * recording.number + index for index in range(recording.chunks)]
        reported = [
            (update.index, update.segment)
            for update in updates
            if isinstance(update, SegmentDone) and update.recording == recording.number
        ]
        assert [(index, wanted[index]) for index in range(recording.chunks)] == [
            (index, segment.tokens[0]) for index, segment in reported
        ], "in the order of time, also of what was read before an error"
        if recording.broken:
            continue
        assert isinstance(result, Transcript)
        assert [segment.tokens[0] for segment in result.segments] == wanted
        assert result.text == " ".join(f"w{token}" for token in wanted)
        assert (result.finish_reason, result.seconds) == ("stop", recording.chunks)
        assert result.timings.get("mel", 0.0) == recording.chunks
        assert reported == list(enumerate(result.segments))


@settings(max_examples=200, deadline=None)
@given(cases, st.integers(1, 4), st.integers(0, 12))
def test_cancelling_at_any_time_ends_with_the_reason_cancelled(
    cases: list[tuple[int, bool]], rows: int, after: int
) -> None:
    batch = counting(rows, [1, 0, 2])
    recordings = [Recording(number, *case) for number, case in enumerate(cases)]
    found = results(run(recordings, batch, lambda: batch.taken >= after))
    assert sorted(found) == list(range(len(found))), "recordings are begun in order"
    for number, result in found.items():
        if isinstance(result, Transcript):
            full = len(result.segments) == cases[number][0]
            assert full or result.finish_reason == "cancelled"
            if result.finish_reason == "stop":
                assert full
        else:
            assert cases[number][1]


def test_a_result_is_yielded_when_it_is_complete() -> None:
    kinds = [
        (type(update).__name__, update.recording)
        for update in run([Recording(0, 2), Recording(1, 0, True), Recording(2, 1)])
    ]
    assert kinds == [
        ("SegmentDone", 0),
        ("SegmentDone", 0),
        ("RecordingDone", 0),
        ("SegmentDone", 2),
        ("RecordingDone", 1),
        ("RecordingDone", 2),
    ] or kinds[3:] == [("RecordingDone", 1), ("SegmentDone", 2), ("RecordingDone", 2)]


def test_known_segments_are_used_for_their_own_chunks() -> None:
    """Also after silences, which are chunks without a request."""

    def with_silences(source: int) -> Iterator[Chunk]:
        for index in range(9):
            silent = index % 3 == 1
            samples = np.full(0 if silent else SECOND, index, np.float32)
            yield Chunk(index * SECOND, samples, skipped=SECOND if silent else 0)

    def run_with(known: KnownSegments | None) -> tuple[Transcript, int]:
        batch = counting()
        scheduler = Scheduler(batch, with_silences, [0], DecodeOptions(), known)
        *_, done = scheduler.run(lambda: False)
        assert isinstance(done, RecordingDone)
        assert isinstance(done.result, Transcript)
        return done.result, batch.taken

    whole, taken = run_with(None)
    assert taken == 6
    for count in range(5):
        known = {segment.start: segment for segment in whole.segments[: 2 * count]}
        found, taken = run_with(lambda _, chunk, known=known: known.get(chunk.start / SECOND))
        assert found.segments == whole.segments
        assert taken == 6 - sum(not segment.skipped for segment in known.values())


def test_recordings_are_opened_when_their_chunks_are_needed() -> None:
    opened: list[int] = []

    def noted(source: Recording) -> Iterator[Chunk]:
        opened.append(source.number)
        yield from read(source)

    sources = (Recording(number, 1) for number in range(5))
    batch = Scheduler(counting(), noted, sources, DecodeOptions())
    updates = batch.run(lambda: False)
    assert opened == []
    assert isinstance(next(updates), SegmentDone)
    assert opened == [0]
    assert isinstance(next(updates), RecordingDone)
    next(updates)
    assert opened == [0, 1]


def test_languages_reasons_and_confidence_of_a_transcript() -> None:
    (done,) = [u for u in run([Recording(0, 3)]) if isinstance(u, RecordingDone)]
    assert isinstance(done.result, Transcript)
    assert done.result.language == "French,English"
    assert done.result.confidence == pytest.approx(0.6)
    assert set(done.result.timings) == {"audio", "mel"}


def test_no_recordings() -> None:
    assert run([]) == []


def test_errors_of_other_kinds_are_not_swallowed() -> None:
    def failing(source: Recording) -> Iterator[Chunk]:
        raise ZeroDivisionError
        yield

    batch = Scheduler(counting(), failing, [Recording(0, 1)], DecodeOptions())
    with pytest.raises(ZeroDivisionError):
        list(batch.run(lambda: False))


@dataclass(frozen=True)
class Pauses:
    """A source whose chunks are silence (True) or sound (False), a second each."""

    plan: tuple[bool, ...]


def read_pauses(source: Pauses) -> Iterator[Chunk]:
    for index, silent in enumerate(source.plan):
        if silent:
            yield Chunk(index * SECOND, np.empty(0, np.float32), skipped=SECOND, peak=0.5)
        else:
            yield Chunk(index * SECOND, np.full(SECOND, index, np.float32))


@given(
    st.lists(st.lists(st.booleans(), max_size=6).map(tuple), max_size=4),
    st.integers(1, 3),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
def test_skipped_silence_is_a_segment(
    plans: list[tuple[bool, ...]], rows: int, order: list[int]
) -> None:
    sources = [Pauses(plan) for plan in plans]
    batch = Scheduler(counting(rows, order), read_pauses, sources, DecodeOptions())
    updates = list(batch.run(lambda: False))
    found = results(updates)
    assert sorted(found) == list(range(len(plans)))
    for number, plan in enumerate(plans):
        transcript = found[number]
        assert isinstance(transcript, Transcript)
        assert transcript.seconds == len(plan)
        assert transcript.skipped == sum(plan)
        assert [s.skipped > 0 for s in transcript.segments] == list(plan)
        assert [s.start for s in transcript.segments] == list(range(len(plan)))
        assert transcript.finish_reason == "stop"
        done = [u.index for u in updates if isinstance(u, SegmentDone) and u.recording == number]
        assert sorted(done) == list(range(len(plan)))


def test_a_silent_recording_can_be_cancelled() -> None:
    batch = Scheduler(counting(), read_pauses, [Pauses((True,) * 9)], DecodeOptions())
    asked = iter([False] * 4 + [True] * 99)
    (*chunks, last) = batch.run(lambda: next(asked))
    assert isinstance(last, RecordingDone)
    assert isinstance(last.result, Transcript)
    assert last.result.finish_reason == "cancelled"
    assert 0 < len(chunks) < 9


@given(st.sets(st.integers(0, 5)), st.integers(1, 3))
def test_known_segments_are_not_recognized_again(known: set[int], rows: int) -> None:
    batch = counting(rows)
    segments = {
        number: counted(ChunkRequest(0, chunk, DecodeOptions()), "stop")
        for number, chunk in enumerate(read(Recording(0, 6)))
        if number in known
    }
    scheduler = Scheduler(
        batch,
        read,
        [Recording(0, 6)],
        DecodeOptions(),
        known=lambda recording, chunk: segments.get(chunk.start // SECOND),
    )
    *reported, done = scheduler.run(lambda: False)
    assert isinstance(done, RecordingDone)
    assert isinstance(done.result, Transcript)
    assert [segment.tokens[0] for segment in done.result.segments] == list(range(6))
    assert [update.index for update in reported if isinstance(update, SegmentDone)] == list(
        range(6)
    )
    assert batch.taken == 6 - len(known)


def test_ending_the_iteration_cancels_the_batch() -> None:
    batch = counting(2)
    updates = Scheduler(batch, read, [Recording(0, 4)], DecodeOptions()).run(lambda: False)
    next(updates)
    assert batch.pending
    updates.close()
    assert not batch.pending


def _transcript(*chunks: Chunk) -> Transcript:
    scheduler = Scheduler(counting(1), lambda _: iter(chunks), ["one"], DecodeOptions())
    (done,) = [u for u in scheduler.run(lambda: False) if isinstance(u, RecordingDone)]
    assert isinstance(done.result, Transcript)
    return done.result


@pytest.mark.parametrize(("level", "quiet"), [(0.0, False), (0.005, True), (0.02, False)])
def test_a_quiet_recording_has_a_warning(level: float, quiet: bool) -> None:
    result = _transcript(Chunk(0, np.full(SECOND, level, np.float32)))
    assert [("very quiet" in warning) for warning in result.warnings] == [True] * quiet


def test_warnings_of_reading_are_in_the_transcript() -> None:
    sound, nothing = np.ones(SECOND, np.float32), np.zeros(0, np.float32)
    result = _transcript(
        Chunk(0, sound, warnings=("one",)),
        Chunk(SECOND, sound),
        Chunk(2 * SECOND, nothing, warnings=("two",)),
    )
    assert result.warnings == ("one", "two")
    assert len(result.segments) == 2
    assert result.finish_reason == "stop"
    assert result.seconds == 2.0
