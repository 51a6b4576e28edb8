"""Cuts: no audio is lost, cuts are at quiet places, and results do not depend on blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tone_speech

from auris.audio.segmentation import CHUNK_SECONDS, Cutter, halves, split
from auris.errors import UsageError
from auris.types import Chunk

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def check_chunks(chunks: list[Chunk], samples: np.ndarray) -> None:
    """The chunks are the recording, without gap or overlap."""
    place = 0
    for chunk in chunks:
        assert chunk.start == place
        assert chunk.samples.dtype == np.float32
        assert len(chunk.samples) > 0
        place += len(chunk.samples)
    joined = np.concatenate([chunk.samples for chunk in chunks])
    assert np.array_equal(joined, samples)


def search_seconds(seconds: float) -> float:
    return min(5.0, seconds / 3)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 20.0),
    st.floats(1.0, 6.0),
    st.lists(st.integers(0, 30_000), min_size=1, max_size=6).filter(any),
    st.integers(0, 3),
)
def test_chunks_do_not_depend_on_block_sizes(
    seconds: float, target: float, sizes: list[int], seed: int
) -> None:
    samples = tone_speech(seconds, seed)

    def blocks() -> Iterator[np.ndarray]:
        place = 0
        while place < len(samples):
            for size in sizes:
                yield samples[place : place + size]
                place += size

    chunks = list(split([samples], target))
    check_chunks(chunks, samples)
    again = list(split(blocks(), target))
    assert [len(chunk.samples) for chunk in again] == [len(chunk.samples) for chunk in chunks]
    check_chunks(again, samples)
    for chunk in chunks[:-1]:
        length = len(chunk.samples) / RATE
        assert (
            min(1.0, target - search_seconds(target)) <= length <= target + search_seconds(target)
        )
    assert len(chunks[-1].samples) / RATE < target + search_seconds(target) + 1.0 + 1 / RATE


@pytest.mark.parametrize("block", [1, 7, 159, 160, 1000])
def test_tiny_blocks(block: int) -> None:
    samples = tone_speech(4.0)
    pieces = [samples[first : first + block] for first in range(0, len(samples), block)]
    chunks = list(split(pieces, 1.0))
    check_chunks(chunks, samples)
    assert [len(c.samples) for c in chunks] == [len(c.samples) for c in split([samples], 1.0)]


@pytest.mark.parametrize("target", [1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("place", [-0.9, -0.3, 0.0, 0.5, 0.9])
def test_the_cut_is_in_the_silence(target: float, place: float) -> None:
    """The cut is in a silence of a quarter of a second anywhere in the search window."""
    samples = noise(target + search_seconds(target) + 2.0)
    middle = target + place * (search_seconds(target) - 0.125)
    samples[round((middle - 0.125) * RATE) : round((middle + 0.125) * RATE)] = 0.0
    first, *_ = split([samples], target)
    # The quiet tenth of a second is inside the silence, and the cut is in its middle.
    assert abs(len(first.samples) / RATE - middle) <= 0.125 - 0.05 + 0.01


@settings(max_examples=40, deadline=None)
@given(st.floats(1.5, 10.0), st.floats(0.8, 3.0), st.floats(1.0, 6.0), st.sampled_from((0.0, 1e-4)))
def test_short_chunks_end_with_an_utterance(
    target: float, pause: float, spoken: float, hush: float
) -> None:
    """The cut is in the first pause after a second, in the middle of what was fed of it."""
    longest = target + search_seconds(target)
    samples = noise(longest + spoken + pause + 2.0)
    first, last = (round(seconds * RATE) for seconds in (spoken, spoken + pause))
    samples[first:last] *= hush
    cut = len(next(iter(split([samples], target))).samples) / RATE
    heard = min(spoken + pause, longest)
    if heard - spoken > 0.62:
        assert cut == pytest.approx((spoken + heard) / 2, abs=0.03)
    elif heard - spoken < 0.58:
        assert abs(cut - target) <= search_seconds(target)


def test_a_pause_between_words_does_not_end_an_utterance() -> None:
    samples = noise(20.0)
    samples[2 * RATE : round(2.5 * RATE)] = 0.0
    samples[2 * RATE + RATE : 4 * RATE] *= 0.1
    first, *_ = split([samples], 5.0)
    assert abs(len(first.samples) / RATE - 5.0) <= search_seconds(5.0)


def test_long_chunks_do_not_end_with_every_utterance() -> None:
    samples = noise(60.0)
    samples[4 * RATE : 6 * RATE] = 0.0
    first, *_ = split([samples], 10.5)
    assert abs(len(first.samples) / RATE - 10.5) <= search_seconds(10.5)
    first, *_ = split([samples], 10.0)
    assert len(first.samples) == 5 * RATE


def test_silence_outside_the_search_window_is_not_a_cut() -> None:
    samples = noise(40.0)
    samples[10 * RATE : 20 * RATE] = 0.0
    samples[round(35.2 * RATE) : 36 * RATE] = 0.0
    samples[32 * RATE : round(32.2 * RATE)] *= 0.1
    first, *_ = split([samples], 30.0)
    assert 32.0 <= len(first.samples) / RATE <= 32.2


def test_pure_silence_is_cut_in_the_middle_of_the_window() -> None:
    chunks = list(split([np.zeros(100 * RATE, np.float32)], 30.0))
    assert [chunk.start / RATE for chunk in chunks] == pytest.approx([0, 30, 60, 90], abs=0.06)


@pytest.mark.parametrize("target", [1.0, 7.5, 30.0])
def test_audio_ending_a_second_after_the_search_window_is_not_cut(target: float) -> None:
    limit = round(target * RATE) + round(search_seconds(target) * RATE) + RATE
    for length in (1, round(target * RATE), limit - 1):
        (only,) = split([noise(limit / RATE)[:length]], target)
        assert (only.start, len(only.samples)) == (0, length)
    assert len(list(split([noise(limit / RATE + 1)[:limit]], target))) == 2


def test_chunks_have_thirty_seconds_by_default() -> None:
    assert CHUNK_SECONDS == 30.0
    lengths = [len(chunk.samples) / RATE for chunk in split([noise(100.0)])]
    assert all(25.0 <= length <= 35.0 for length in lengths[:-1])


def test_a_chunk_is_yielded_before_the_next_is_read() -> None:
    """A stream is cut while it arrives, and only the samples of a chunk are stored."""
    heard = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal heard
        while True:
            heard += 1
            yield noise(1.0, heard)

    chunks = split(blocks(), 4.0)
    assert heard == 0
    needed = 0
    for _ in range(5):
        needed = next(chunks).start / RATE + 4.0 + 4.0 / 3 + 1.0
        assert heard <= needed + 1


@pytest.mark.parametrize("blocks", [[], [np.empty(0, np.float32)]])
def test_no_samples_give_no_chunk(blocks: list[np.ndarray]) -> None:
    assert list(split(blocks)) == []


@pytest.mark.parametrize(
    "seconds", [0.0, -1.0, 0.999, 1200.1, float("nan"), float("inf"), -float("inf")]
)
def test_targets_out_of_range_are_refused_at_once(seconds: float) -> None:
    with pytest.raises(UsageError, match=r"1 to 1200 seconds long.*choose chunk_seconds"):
        split([noise(1.0)], seconds)


@pytest.mark.parametrize("seconds", [1, 1.0, 1200, 1200.0])
def test_the_range_includes_its_limits(seconds: float) -> None:
    assert len(list(split([noise(1.0)], seconds))) == 1


@pytest.mark.parametrize("block", [1000, 16_000, 100_000])
def test_the_audio_after_the_last_cut_is_available(block: int) -> None:
    samples = tone_speech(9.0, 2)
    cutter = Cutter(2.0)
    assert cutter.unfixed() is None
    chunks: list[Chunk] = []
    for first in range(0, len(samples), block):
        chunks += cutter.feed(samples[first : first + block])
        open_piece = cutter.unfixed()
        known = [*chunks, open_piece] if open_piece is not None else chunks
        check_chunks(known, samples[: first + block])
    assert [open_piece.start] == [chunk.start for chunk in cutter.finish()]
    assert cutter.unfixed() is None
    assert cutter.finish() == []


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 40.0), st.integers(0, 10**6), st.integers(0, 3))
def test_halves_join_to_the_chunk(seconds: float, start: int, seed: int) -> None:
    chunk = Chunk(start, tone_speech(seconds, seed), "Zoë")
    parts = halves(chunk)
    if len(chunk.samples) < 4 * RATE:
        assert parts is None
        return
    assert parts is not None
    left, right = parts
    assert (left.start, right.start) == (start, start + len(left.samples))
    assert left.speaker == right.speaker == "Zoë"
    assert np.array_equal(np.concatenate([left.samples, right.samples]), chunk.samples)
    off = abs(len(left.samples) - len(chunk.samples) / 2)
    assert off <= min(5 * RATE, len(chunk.samples) / 6) + 1


def test_halves_are_cut_where_it_is_quiet() -> None:
    samples = noise(20.0)
    samples[11 * RATE : 11 * RATE + RATE // 4] = 0.0
    parts = halves(Chunk(0, samples))
    assert parts is not None
    assert 11 * RATE <= len(parts[0].samples) <= 11 * RATE + RATE // 4


def with_pause(before: float, pause: float, after: float, level: float = 1e-4) -> np.ndarray:
    """Noise with a quiet part inside."""
    quiet = level * noise(pause, 1)
    return np.concatenate([noise(before, 2), quiet, noise(after, 3)])


def lengths_at_pauses(samples: np.ndarray, target: float, block: int) -> list[float]:
    """Seconds of chunks that end at pauses, fed in blocks of a size."""
    cutter = Cutter(target, end_at_pauses=True)
    blocks = [samples[first : first + block] for first in range(0, len(samples), block)]
    chunks = [chunk for part in blocks for chunk in cutter.feed(part)] + cutter.finish()
    check_chunks(chunks, samples)
    return [len(chunk.samples) / RATE for chunk in chunks]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 12.0), st.floats(1.0, 8.0), st.integers(100, 30_000), st.integers(0, 3))
def test_cuts_at_pauses_do_not_depend_on_block_sizes(
    seconds: float, target: float, block: int, seed: int
) -> None:
    samples = tone_speech(seconds, seed)
    samples[len(samples) // 3 : len(samples) // 3 + RATE // 2] *= 1e-3
    whole = lengths_at_pauses(samples, target, len(samples))
    assert lengths_at_pauses(samples, target, block) == whole


def test_a_chunk_ends_as_soon_as_a_pause_is_long_enough() -> None:
    samples = with_pause(3.0, 1.0, 3.0)
    # By then a pause of 0.64 s is enough.
    assert lengths_at_pauses(samples, 8.0, 1600) == pytest.approx([3.32, 3.68], abs=0.01)
    cutter = Cutter(8.0, end_at_pauses=True)
    assert not cutter.feed(samples[: round(3.6 * RATE)])
    assert len(cutter.feed(samples[round(3.6 * RATE) : round(3.7 * RATE)])) == 1


@pytest.mark.parametrize(
    ("before", "pause", "level"), [(1.0, 1.0, 1e-4), (3.0, 0.3, 1e-4), (3.0, 1.0, 0.1)]
)
def test_early_short_and_loud_pauses_do_not_end_a_chunk(
    before: float, pause: float, level: float
) -> None:
    """A pause has to begin behind a quarter of the target, last 0.8 s and be 25 dB lower, or a bit
    less in a longer chunk."""
    samples = with_pause(before, pause, 4.5 - before, level)
    assert len(lengths_at_pauses(samples, 8.0, 1600)) == 1


def test_silence_before_speech_is_no_pause() -> None:
    """Digital silence is quiet from the beginning; it ends no chunk until there was sound."""
    samples = np.concatenate([np.zeros(5 * RATE, np.float32), noise(2.0)])
    assert lengths_at_pauses(samples, 8.0, 1600) == [7.0]
