"""Recordings to pieces and back, on a recognizer that only counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.batching import (
    Batch,
    Failure,
    KeptSegments,
    PieceDone,
    RecordingDone,
    Update,
    no_kept_segments,
)
from auris.errors import UnreadableAudio
from auris.recognizers import Options, Piece, Recognized
from auris.types import Chunk, Segment, Transcript

SECOND = 16_000


@dataclass
class Counting:
    """Takes pieces up to `rows` at once and finishes them in a scrambled order."""

    order: list[int] = field(default_factory=lambda: [0])
    taken: int = 0
    begun: list[int] = field(default_factory=list)

    def check(self, options: Options) -> None:
        """See `Recognizer.check`."""

    def recognize(
        self, pieces: Iterable[Piece], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`."""
        source = iter(pieces)
        held: list[Piece] = []
        turn = 0
        while True:
            while len(held) < rows and not cancelled():
                piece = next(source, None)
                if piece is None:
                    break
                self.taken += 1
                held.append(piece)
            if not held:
                return
            stop = cancelled()
            for piece in (
                held if stop else [held.pop(self.order[turn % len(self.order)] % len(held))]
            ):
                yield self._done(piece, "cancelled" if stop else "stop")
            turn += 1
            if stop:
                return

    def _done(self, piece: Piece, reason: str) -> Recognized:
        start = piece.chunk.start / SECOND
        number = int(piece.chunk.samples[0])
        segment = Segment(
            start,
            start + len(piece.chunk.samples) / SECOND,
            f"w{number}",
            "English" if number % 2 else "French",
            (number,),
            (-1.0,),
            reason,  # type: ignore[arg-type]
            word_confidences=((f"w{number}", 0.5 + 0.1 * number), ("?", None)),
        )
        return Recognized(piece.key, segment, {"mel": 1.0})


@dataclass(frozen=True)
class Recording:
    """A source with some pieces of one second, and perhaps an error behind them."""

    number: int
    pieces: int
    broken: bool = False


def read(source: Recording) -> Iterator[Chunk]:
    for index in range(source.pieces):
        samples = np.full(SECOND, 10 * source.number + index, np.float32)
        yield Chunk(index * SECOND, samples)
    if source.broken:
        raise UnreadableAudio("A file has to be whole", f"number {source.number} is not", "mend it")


def run(
    recordings: list[Recording],
    rows: int = 1,
    recognizer: Counting | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Update]:
    batch = Batch(recognizer or Counting(), read, recordings, Options())  # type: ignore[arg-type]
    return list(batch.run(rows, cancelled))


def results(updates: list[Update]) -> dict[int, Transcript | Failure]:
    found: dict[int, Transcript | Failure] = {}
    for update in updates:
        if isinstance(update, RecordingDone):
            assert update.recording not in found, "a recording is finished twice"
            found[update.recording] = update.result
        else:
            assert update.recording not in found, "a piece after its recording's end"
    return found


cases = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6)


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(1, 4), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_every_recording_gets_its_own_pieces(
    cases: list[tuple[int, bool]], rows: int, order: list[int]
) -> None:
    recordings = [Recording(number, *case) for number, case in enumerate(cases)]
    updates = run(recordings, rows, Counting(order))
    found = results(updates)
    assert sorted(found) == list(range(len(cases)))
    for recording in recordings:
        result = found[recording.number]
        if recording.broken:
            assert isinstance(result, Failure)
            assert f"number {recording.number}" in str(result.error)
            continue
        assert isinstance(result, Transcript)
        wanted = [10 * recording.number + index for index in range(recording.pieces)]
        assert [segment.tokens[0] for segment in result.segments] == wanted
        assert result.text == " ".join(f"w{token}" for token in wanted)
        assert (result.finish_reason, result.seconds) == ("stop", recording.pieces)
        assert result.timings.get("mel", 0.0) == recording.pieces
        given_pieces = {
            (update.index, update.segment)
            for update in updates
            if isinstance(update, PieceDone) and update.recording == recording.number
        }
        assert given_pieces == set(enumerate(result.segments))


@settings(max_examples=200, deadline=None)
@given(cases, st.integers(1, 4), st.integers(0, 12))
def test_cancelling_at_any_time_ends_and_says_so(
    cases: list[tuple[int, bool]], rows: int, after: int
) -> None:
    recognizer = Counting([1, 0, 2])
    recordings = [Recording(number, *case) for number, case in enumerate(cases)]
    found = results(run(recordings, rows, recognizer, lambda: recognizer.taken >= after))
    assert sorted(found) == list(range(len(found))), "recordings are begun in order"
    for number, result in found.items():
        if isinstance(result, Transcript):
            full = len(result.segments) == cases[number][0]
            assert full or result.finish_reason == "cancelled"
            if result.finish_reason == "stop":
                assert full
        else:
            assert cases[number][1]


def test_a_result_comes_as_soon_as_it_is_complete() -> None:
    kinds = [
        (type(update).__name__, update.recording)
        for update in run([Recording(0, 2), Recording(1, 0, True), Recording(2, 1)])
    ]
    assert kinds == [
        ("PieceDone", 0),
        ("PieceDone", 0),
        ("RecordingDone", 0),
        ("PieceDone", 2),
        ("RecordingDone", 1),
        ("RecordingDone", 2),
    ] or kinds[3:] == [("RecordingDone", 1), ("PieceDone", 2), ("RecordingDone", 2)]


def test_kept_segments_stand_at_their_own_chunks() -> None:
    """Behind silences, too, which are chunks without samples; none is recognized again."""

    def with_silences(source: int) -> Iterator[Chunk]:
        for index in range(6):
            start = 2 * index * SECOND
            yield Chunk(start, np.full(SECOND, index, np.float32))
            yield Chunk(start + SECOND, np.empty(0, np.float32), skipped=SECOND)

    def run_with(kept: KeptSegments) -> tuple[Transcript, int]:
        recognizer = Counting()
        batch = Batch(recognizer, with_silences, [0], Options(), kept)  # type: ignore[arg-type]
        (done,) = [u for u in batch.run(2, lambda: False) if isinstance(u, RecordingDone)]
        assert isinstance(done.result, Transcript)
        return done.result, recognizer.taken

    whole, taken = run_with(no_kept_segments)
    assert (taken, len(whole.segments)) == (6, 12)
    for count in range(7):
        kept = {segment.start: segment for segment in whole.segments[: 2 * count]}
        found, taken = run_with(lambda _, chunk, kept=kept: kept.get(chunk.start / SECOND))
        assert taken == 6 - count
        assert found.segments == whole.segments


def test_recordings_are_opened_one_after_the_other_as_pieces_are_wanted() -> None:
    opened: list[int] = []

    def noted(source: Recording) -> Iterator[Chunk]:
        opened.append(source.number)
        yield from read(source)

    sources = (Recording(number, 1) for number in range(5))
    batch = Batch(Counting(), noted, sources, Options())  # type: ignore[arg-type]
    updates = batch.run(1, lambda: False)
    assert opened == []
    assert isinstance(next(updates), PieceDone)
    assert opened == [0]
    assert isinstance(next(updates), RecordingDone)
    next(updates)
    assert opened == [0, 1]


def test_languages_reasons_and_confidence_of_a_whole() -> None:
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

    batch = Batch(Counting(), failing, [Recording(0, 1)], Options())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        list(batch.run(1, lambda: False))


@dataclass(frozen=True)
class Pauses:
    """A source whose pieces are silence (True) or sound (False), a second each."""

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
def test_silences_are_accounted_for(
    plans: list[tuple[bool, ...]], rows: int, order: list[int]
) -> None:
    sources = [Pauses(plan) for plan in plans]
    batch = Batch(Counting(order), read_pauses, sources, Options())  # type: ignore[arg-type]
    updates = list(batch.run(rows, lambda: False))
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
        done = [u.index for u in updates if isinstance(u, PieceDone) and u.recording == number]
        assert sorted(done) == list(range(len(plan)))


def test_silence_alone_can_be_cancelled() -> None:
    batch = Batch(Counting(), read_pauses, [Pauses((True,) * 9)], Options())  # type: ignore[arg-type]
    asked = iter([False] * 4 + [True] * 99)
    (*pieces, last) = batch.run(1, lambda: next(asked))
    assert isinstance(last, RecordingDone)
    assert isinstance(last.result, Transcript)
    assert last.result.finish_reason == "cancelled"
    assert 0 < len(pieces) < 9
