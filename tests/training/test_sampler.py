"""Batches: within limits, complete, and determined by the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.training.sampler import batches, by_length, long_rows, short_rows
from tests.training.tones import tone_clip


@given(st.lists(st.floats(0.1, 20.0), max_size=60), st.floats(1.0, 50.0), st.integers(0, 9))
def test_batches_have_every_example_once_within_the_limit(
    seconds: list[float], most: float, seed: int
) -> None:
    found = batches(seconds, most, np.random.default_rng(seed))
    assert sorted(i for batch in found for i in batch) == list(range(len(seconds)))
    for batch in found:
        assert len(batch) == 1 or sum(seconds[i] for i in batch) <= most + 1e-9


def test_batches_are_full_and_have_similar_lengths() -> None:
    seconds = np.random.default_rng(0).uniform(1, 10, 500).tolist()
    found = batches(seconds, 50.0, np.random.default_rng(1))
    totals = [sum(seconds[i] for i in batch) for batch in found]
    assert np.mean(totals) > 44
    spread = [max(seconds[i] for i in b) / min(seconds[i] for i in b) for b in found]
    assert np.median(spread) < 2.0  # Of 10 without the order.


def test_the_order_depends_only_on_the_seed() -> None:
    seconds = np.random.default_rng(0).uniform(1, 10, 100).tolist()
    one, again, other = (batches(seconds, 20.0, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_batches_by_length_are_in_order_of_length() -> None:
    assert by_length([3.0, 1.0, 2.0], 3.0) == [[1, 2], [0]]


def test_short_clips_of_one_speaker_are_joined() -> None:
    clips = [tone_clip("a", "ann"), tone_clip("b", "ann"), tone_clip("c", "ann")]
    clips += [tone_clip("d", "bob"), tone_clip("a"), tone_clip("b"), tone_clip("abcdabcd", "ann")]
    joined = short_rows(clips, np.random.default_rng(0), 1.0, 3, 4)
    assert joined
    assert all(2 <= len(row) <= 3 and set(row) <= {0, 1, 2} for row in joined)


@pytest.mark.parametrize("copies", [0, 1])
def test_the_number_of_copies_limits_the_joined_clips(copies: int) -> None:
    clips = [tone_clip("a", "ann") for _ in range(20)]
    joined = short_rows(clips, np.random.default_rng(0), 1.0, 4, copies)
    heard = [i for row in joined for i in row]
    assert len(heard) == len(set(heard))
    assert 19 * copies <= len(heard) <= 20 * copies


@given(
    st.lists(st.floats(0.2, 15.0), max_size=60),
    st.floats(0.0, 1.0),
    st.floats(5.0, 40.0),
    st.integers(0, 9),
)
def test_long_rows_have_a_share_of_the_clips_within_the_limit(
    seconds: list[float], share: float, most: float, seed: int
) -> None:
    rows = long_rows(seconds, np.random.default_rng(seed), share, most)
    heard = [i for row in rows for i in row]
    assert len(heard) == len(set(heard)) <= share * len(seconds)
    for row in rows:
        assert len(row) > 1
        assert sum(seconds[i] for i in row) <= most + 1e-9


def test_long_rows_use_their_full_share() -> None:
    rows = long_rows([3.0] * 200, np.random.default_rng(0), 0.5, 40.0)
    assert 90 <= sum(map(len, rows)) <= 100
    assert max(3.0 * len(row) for row in rows) > 30
