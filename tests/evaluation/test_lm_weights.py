"""The search for the weights of a language model."""

from __future__ import annotations

import pytest

from auris.checkpoints.lm_weights import LmWeights
from auris.evaluation.lm_weights import pattern_search


@pytest.mark.parametrize(("weight", "bonus"), [(0.5, 2.5), (0.0, 0.0), (0.3, -1.0)])
def test_the_best_weights_are_approached(weight: float, bonus: float) -> None:
    def rate(weights: LmWeights) -> float:
        return (weights.weight - weight) ** 2 + 0.05 * (weights.word_bonus - bonus) ** 2

    trials = list(pattern_search(rate, LmWeights(0.4, 1.0), 40))
    best = min(trials, key=lambda trial: trial.rate)
    assert best.weights.weight == pytest.approx(weight, abs=0.06)
    assert best.weights.word_bonus == pytest.approx(bonus, abs=0.3)


def test_no_weights_are_tried_twice_and_the_beam_stays() -> None:
    trials = list(pattern_search(lambda _: 1.0, LmWeights(0.4, 1.0, beam_size=5), 20))
    assert len(trials) == 20
    assert len({(t.weights.weight, t.weights.word_bonus) for t in trials}) == 20
    assert {trial.weights.beam_size for trial in trials} == {5}
