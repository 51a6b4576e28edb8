"""Greedy CTC against its definition, written out frame by frame."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auris.decoding.ctc import CtcPath, greedy


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
def test_equals_the_definition(data: st.DataObject, units: int, frames: int) -> None:
    # Quarters within a row, so that none are tied, and rows of different certainty.
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


def test_reads_any_floating_type() -> None:
    logits = torch.tensor([[0.0, 4.0], [4.0, 0.0]], dtype=torch.bfloat16)
    path = greedy(logits, blank=0)
    assert path.ids == (1,)
    assert path.logprobs[0] == pytest.approx(-math.log1p(math.exp(-4)), rel=1e-5)


def test_no_frames_no_units() -> None:
    assert greedy(torch.empty(0, 5), blank=4) == CtcPath((), (), (), ())
