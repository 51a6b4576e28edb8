"""The CTC loss against the sum over all paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from auris.training.tasks import Losses, ctc_loss

BLANK = 2


def collapse(path: tuple[int, ...]) -> list[int]:
    return [unit for unit, _ in itertools.groupby(path) if unit != BLANK]


def by_all_paths(logits: torch.Tensor, target: list[int]) -> float:
    probabilities = logits.double().softmax(-1)
    total = 0.0
    for path in itertools.product(range(3), repeat=len(logits)):
        if collapse(path) == target:
            total += math.prod(float(probabilities[t, c]) for t, c in enumerate(path))
    return -math.log(total)


def test_the_loss_of_packed_clips_of_different_lengths() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 3)
    targets = [[0, 0], [1]]
    expected = by_all_paths(logits[:4], [0, 0]) + by_all_paths(logits[4:], [1])
    found = ctc_loss(logits, [4, 3], targets, BLANK)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_float32_for_any_dtype_of_logits() -> None:
    logits = torch.randn(6, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = ctc_loss(logits, [6], [[0, 1]], BLANK)
    assert found.dtype == torch.float32
    assert float(found) == float(ctc_loss(logits.float(), [6], [[0, 1]], BLANK))


def test_the_loss_of_too_many_units_is_infinite() -> None:
    assert math.isinf(float(ctc_loss(torch.randn(2, 3), [2], [[0, 0]], BLANK)))


def test_the_loss_of_silence_is_that_of_blanks() -> None:
    logits = torch.randn(5, 3)
    expected = -float(logits.log_softmax(-1)[:, BLANK].sum())
    assert float(ctc_loss(logits, [5], [[]], BLANK)) == pytest.approx(expected, rel=1e-5)


def test_the_total_does_not_depend_on_the_division_of_the_batch() -> None:
    sums, counts = torch.tensor([[3.0, 8.0], [5.0, 0.0]]), torch.tensor([[2.0, 4.0], [6.0, 0.0]])
    everything = counts.sum(0)
    parts = sum(float(Losses(part, everything).total) for part in sums)
    assert parts == pytest.approx(float(Losses(sums.sum(0), everything).total))
    assert float(Losses(torch.tensor([2.0]), torch.tensor([0.0])).total) == 2.0
