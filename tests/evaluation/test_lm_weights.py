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


def test_the_weight_of_a_ctc_head_is_fitted_where_there_is_one() -> None:
    def rate(weights: LmWeights) -> float:
        return (weights.ctc_weight - 0.05) ** 2

    start = LmWeights(0.4, 1.0, ctc_weight=0.3)
    for with_ctc_head, expected in ((True, 0.05), (False, 0.3)):
        trials = list(pattern_search(rate, start, 40, with_ctc_head))
        best = min(trials, key=lambda trial: trial.rate)
        assert best.weights.ctc_weight == pytest.approx(expected, abs=0.03)
        assert min(trial.weights.ctc_weight for trial in trials) >= 0.0
