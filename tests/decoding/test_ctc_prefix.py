"""CTC prefix scores against sums over all paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.decoding.ctc_prefix import LEAST_SCORE, CtcPrefixScorer
from auris.decoding.scoring import text_score
from tests.decoding.scorers import state_after

BLANK = 2


def logits_of(frames: int, seed: int) -> torch.Tensor:
    return 2 * torch.randn(frames, 3, generator=torch.Generator().manual_seed(seed))


def units_of(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(unit for unit, _ in itertools.groupby(path) if unit != BLANK)


def all_paths(logits: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The probability of every text."""
    logprobs = logits.log_softmax(-1).tolist()
    texts: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=len(logprobs)):
        value = math.exp(sum(row[unit] for row, unit in zip(logprobs, path, strict=True)))
        texts[units_of(path)] = texts.get(units_of(path), 0.0) + value
    return texts


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 99), st.lists(st.integers(0, 1), max_size=4))
def test_scores_add_up_to_the_probability_of_the_text(
    frames: int, seed: int, text: list[int]
) -> None:
    logits = logits_of(frames, seed)
    scorer, texts = CtcPrefixScorer(logits, BLANK), all_paths(logits)
    beginning = sum(value for one, value in texts.items() if one[: len(text)] == tuple(text))
    score = text_score(scorer, text)
    state = state_after(scorer, text)
    if beginning == 0.0:
        assert score < LEAST_SCORE / 2
        return
    assert score - scorer.end(state) == pytest.approx(math.log(beginning), abs=1e-5)
    if tuple(text) in texts:
        assert score == pytest.approx(math.log(texts[tuple(text)]), abs=1e-5)


def test_candidates_together_are_scored_as_alone() -> None:
    scorer = CtcPrefixScorer(logits_of(9, 3), BLANK)
    state = state_after(scorer, [0, 1])
    together = [score for score, _ in scorer.extend(state, [1, 0], [0.0, 0.0])]
    alone = [scorer.extend(state, [token], [0.0])[0][0] for token in (1, 0)]
    assert together == alone
    assert scorer.extend(state, [], []) == []


@given(st.integers(0, 40), st.integers(0, 99), st.lists(st.text("01", max_size=4), min_size=1))
def test_texts_together_are_scored_as_alone(frames: int, seed: int, texts: list[str]) -> None:
    logits = logits_of(frames, seed)
    together, alone = (CtcPrefixScorer(logits, BLANK) for _ in range(2))
    tokens = np.array([[1, 0]] * len(texts))
    states = [state_after(together, [*map(int, text)]) for text in texts]
    for most, text in zip(together.most(states, tokens).tolist(), texts, strict=True):
        state = state_after(alone, [*map(int, text)])
        assert most == [alone.follow(state, token, 0.0)[0] for token in (1, 0)]


def test_long_and_certain_frames_stay_finite() -> None:
    logits = 60 * torch.nn.functional.one_hot(torch.arange(900) % 3, 3).float()
    scorer = CtcPrefixScorer(logits, BLANK)
    assert text_score(scorer, [0, 1] * 300) == pytest.approx(0.0, abs=1e-2)
    assert text_score(scorer, [1, 0] * 10) < -20


def test_no_frames_have_no_text() -> None:
    scorer = CtcPrefixScorer(torch.zeros(0, 3), BLANK)
    assert text_score(scorer, []) == 0.0
    assert text_score(scorer, [1]) <= LEAST_SCORE
