"""Prefix beam search against the sum over all paths, written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.decoding.ctc import forced, greedy
from auris.decoding.ctc_beam import beam_search
from auris.decoding.scoring import State
from auris.decoding.word_scorer import WordScorer
from tests.decoding.texts import small_model

ALPHABET = " 'abcdehilmnorst"
"""Units of toy vocabularies; the blank follows them."""


def unit_bytes(unit: int) -> bytes:
    """The letter of a unit."""
    return ALPHABET[unit].encode()


class PairScorer:
    """Scores a unit by itself and the one before it, and the end by the last unit."""

    def start(self) -> State:
        return None

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        before = state if isinstance(state, int) else 5
        return [(math.sin(3 * before + 7 * token), token) for token in tokens]

    def end(self, state: State) -> float:
        return 0.0 if state is None else math.cos(float(str(state)))


def collapsed(path: Sequence[int], blank: int) -> tuple[int, ...]:
    """The units of a path of frames."""
    return tuple(unit for unit, _ in itertools.groupby(path) if unit != blank)


def by_definition(logits: torch.Tensor, blank: int, scorer: PairScorer | None) -> tuple[int, ...]:
    """The units with the largest sum over all paths, with their scores."""
    logprobs = logits.log_softmax(-1).tolist()
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logprobs)):
        probability = math.exp(sum(row[unit] for row, unit in zip(logprobs, path, strict=True)))
        units = collapsed(path, blank)
        totals[units] = totals.get(units, 0.0) + probability
    return max(totals, key=lambda units: math.log(totals[units]) + score(scorer, units))


def score(scorer: PairScorer | None, units: Sequence[int]) -> float:
    """The sum of a scorer's scores."""
    if scorer is None:
        return 0.0
    state, total = scorer.start(), 0.0
    for unit in units:
        ((added, state),) = scorer.extend(state, [unit], [0.0])
        total += added
    return total + scorer.end(state)


def random_logits(seed: int, frames: int, classes: int, scale: float = 1.5) -> torch.Tensor:
    """Scores of frames, with some certain ones."""
    return torch.randn((frames, classes), generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(1, 3), st.booleans())
def test_without_pruning_the_best_text_is_that_of_all_paths(
    seed: int, frames: int, units: int, scored: bool
) -> None:
    logits = random_logits(seed, frames, units + 1)
    scorer = PairScorer() if scored else None
    found = beam_search(logits, units, 10_000, scorer, -math.inf, width=math.inf)
    assert found.ids == by_definition(logits, units, scorer)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_units_lie_on_their_best_path(seed: int, beam_size: int) -> None:
    logits = random_logits(seed, 12, 5)
    found = beam_search(logits, 4, beam_size, PairScorer())
    assert found == forced(logits.log_softmax(-1), found.ids, 4)


@given(st.integers(0, 10_000))
def test_where_every_frame_is_certain_the_text_is_the_greedy_one(seed: int) -> None:
    logits = random_logits(seed, 20, 6, scale=0.1)
    best = torch.randint(6, (20,), generator=torch.Generator().manual_seed(seed + 1))
    logits[torch.arange(20), best] += 12.0
    assert beam_search(logits, 5, 4).ids == greedy(logits, 5).ids


@given(st.integers(0, 10_000))
def test_a_language_model_completes_what_was_not_clear(seed: int) -> None:
    # Every letter but one of "the cat sat" is certain; "t" and "m" have the same score there.
    blank = len(ALPHABET)
    logits = random_logits(seed, 22, blank + 1, scale=0.01)
    for number, letter in enumerate("the cat sat"):
        logits[2 * number, ALPHABET.index(letter)] += 10.0
        logits[2 * number + 1, blank] += 10.0
    doubtful = 2 * len("the ca")
    logits[doubtful, ALPHABET.index("t")] -= 1.0
    logits[doubtful, ALPHABET.index("m")] += 10.0
    scorer = WordScorer(small_model(), unit_bytes, weight=0.5)
    path = beam_search(logits, blank, 8, scorer)
    assert "".join(ALPHABET[unit] for unit in path.ids) == "the cat sat"
    assert beam_search(logits, blank, 8).ids == greedy(logits, blank).ids


def test_results_do_not_depend_on_clips_before() -> None:
    shared = WordScorer(small_model(), unit_bytes, 0.6, 0.2)
    blank = len(ALPHABET)
    clips = [random_logits(seed, 15, blank + 1) for seed in range(8)]
    together = [beam_search(clip, blank, 6, shared) for clip in clips]
    for clip, path in zip(reversed(clips), reversed(together), strict=True):
        alone = WordScorer(small_model(), unit_bytes, 0.6, 0.2)
        assert beam_search(clip, blank, 6, alone) == path
        assert beam_search(clip, blank, 6, shared) == path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_of_any_type_are_read(dtype: torch.dtype) -> None:
    logits = random_logits(3, 10, 4).to(dtype)
    assert beam_search(logits, 3, 8) == beam_search(logits.float(), 3, 8)


def test_no_frames_have_no_units() -> None:
    assert beam_search(torch.zeros(0, 4), 3, 8).ids == ()
