"""CTC paths against their definitions, written out frame by frame."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auris.decoding.ctc import CtcPath, forced, frames_needed, greedy


def by_definition(logits: list[list[float]], blank: int) -> CtcPath:
    """Collapse the best path one frame at a time."""
    ids: list[int] = []
    scores: list[float] = []
    first: list[int] = []
    last: list[int] = []
    before = blank
    for frame, row in enumerate(logits):
        best = max(range(len(row)), key=lambda c: row[c])
        score = row[best] - math.log(sum(math.exp(x) for x in row))
        if best != blank:
            if best == before:
                scores[-1] = max(scores[-1], score)
                last[-1] = frame
            else:
                ids.append(best)
                scores.append(score)
                first.append(frame)
                last.append(frame)
        before = best
    return CtcPath(tuple(ids), tuple(scores), tuple(first), tuple(last))


@given(st.data(), st.integers(1, 4), st.integers(0, 12))
def test_collapsing_equals_its_definition(data: st.DataObject, units: int, frames: int) -> None:
    # Multiples of a quarter in a row, so that there are no ties, and rows of different certainty.
    row = st.lists(
        st.integers(-20, 20).map(lambda i: i / 4),
        min_size=units + 1,
        max_size=units + 1,
        unique=True,
    )
    logits = [data.draw(row) for _ in range(frames)]
    blank = data.draw(st.integers(0, units))
    found = greedy(torch.tensor(logits).reshape(frames, units + 1), blank)
    expected = by_definition(logits, blank)
    assert (found.ids, found.first, found.last) == (expected.ids, expected.first, expected.last)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


def test_a_blank_separates_repeats() -> None:
    classes = torch.tensor([2, 0, 0, 2, 0, 1, 1, 1])
    path = greedy(torch.nn.functional.one_hot(classes, 3).float() * 9, blank=2)
    assert path.ids == (0, 0, 1)
    assert path.first == (1, 4, 5)
    assert path.last == (2, 4, 7)


def test_every_floating_dtype_is_accepted() -> None:
    logits = torch.tensor([[0.0, 4.0], [4.0, 0.0]], dtype=torch.bfloat16)
    path = greedy(logits, blank=0)
    assert path.ids == (1,)
    assert path.logprobs[0] == pytest.approx(-math.log1p(math.exp(-4)), rel=1e-5)


def test_no_frames_give_no_units() -> None:
    assert greedy(torch.empty(0, 5), blank=4) == CtcPath((), (), (), ())


@given(st.lists(st.integers(0, 2), max_size=6))
def test_frames_needed_is_the_shortest_path_that_collapses_to_the_ids(ids: list[int]) -> None:
    blank = 9
    path: list[int] = []
    for unit in ids:
        if path and path[-1] == unit:
            path.append(blank)
        path.append(unit)
    assert frames_needed(ids) == len(path)


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    return [unit for unit, _ in itertools.groupby(path) if unit != blank]


@given(st.data(), st.integers(0, 7), st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_the_forced_path_is_the_best_with_the_units(
    data: st.DataObject, frames: int, ids: list[int]
) -> None:
    blank = 2
    score = st.lists(st.floats(-9, 0, width=16), min_size=3, max_size=3)
    logprobs = torch.tensor([data.draw(score) for _ in range(frames)]).reshape(frames, 3)
    total = {
        path: sum(float(logprobs[frame, unit]) for frame, unit in enumerate(path))
        for path in itertools.product(range(3), repeat=frames)
        if collapsed(path, blank) == ids
    }
    found = forced(logprobs, ids, blank)
    if not total:
        assert found is None
        return
    assert found is not None
    path = [blank] * frames
    for unit, first, last in zip(found.ids, found.first, found.last, strict=True):
        path[first : last + 1] = [unit] * (last + 1 - first)
    assert found.ids == tuple(ids)
    assert total[tuple(path)] == pytest.approx(max(total.values()), abs=1e-4)
    for unit, first, last, logprob in zip(
        found.ids, found.first, found.last, found.logprobs, strict=True
    ):
        assert logprob == float(logprobs[first : last + 1, unit].max())


@given(st.integers(1, 300), st.integers(0, 99))
def test_forcing_the_units_of_the_best_path_gives_that_path(frames: int, seed: int) -> None:
    """At every length, so that stored totals and recomputed moves are used at all positions."""
    logits = 3 * torch.randn(frames, 5, generator=torch.Generator().manual_seed(seed))
    best = greedy(logits, blank=4)
    assert forced(logits.log_softmax(-1), best.ids, blank=4) == CtcPath(
        best.ids, pytest.approx(best.logprobs, abs=1e-5), best.first, best.last
    )


def test_no_units_give_an_empty_path() -> None:
    assert forced(torch.empty(0, 5), [], blank=4) == CtcPath((), (), (), ())
    assert forced(torch.zeros(3, 5), [], blank=4) == CtcPath((), (), (), ())
