"""Fits the weights of a language model on development sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from auris.checkpoints.lm_weights import LmWeights
from auris.errors import UsageError
from auris.evaluation.wer import score_set
from auris.pipeline import AsrPipeline

FIRST_STEPS = 0.2, 1.0
"""Distances of the first trials, of the weight and of the word bonus."""


@dataclass(frozen=True)
class Trial:
    """Weights, and the mean word error rate of the development sets with them."""

    weights: LmWeights
    rate: float


def fit_weights(
    pipeline: AsrPipeline,
    sets: Mapping[str, Mapping[Path, str]],
    trials: int,
    beam_size: int | None = None,
    batch_size: int = 1,
) -> Iterator[Trial]:
    """Measure the error rates of a model with different weights of its language model.

    The pipeline uses the weights of the last trial afterwards.

    Args:
        pipeline: with a language model, whose present weights are the first ones.
        sets: transcripts by file of the development sets.
        trials: how many weights are tried.
        beam_size: hypotheses that are followed; None for the number of the present weights.
        batch_size: chunks that are decoded together.

    Raises:
        UsageError: the pipeline has no language model.
    """
    scorers = pipeline.recognizer.scorers
    if scorers.lm is None:
        raise UsageError(
            "Weights of a language model need one", "none is given", "name it with --lm"
        )
    start = scorers.lm.weights
    if beam_size is not None:
        start = replace(start, beam_size=beam_size)

    def rate(weights: LmWeights) -> float:
        scorers.reweight(weights)
        scores = [
            score_set(pipeline, name, clips, normalizer="spoken", batch_size=batch_size)
            for name, clips in sets.items()
        ]
        rates = [score.wer for score in scores if score.wer is not None]
        return sum(rates) / max(1, len(rates))

    yield from pattern_search(rate, start, trials)


def pattern_search(
    rate: Callable[[LmWeights], float], start: LmWeights, trials: int
) -> Iterator[Trial]:
    """Try weights around the best ones so far, closer and closer.

    Args:
        rate: measures the mean error rate with some weights.
        start: the first weights.
        trials: how many weights are tried.

    Yields:
        every trial, in order.
    """
    best = Trial(start, rate(start))
    tried = {(start.weight, start.word_bonus)}
    yield best
    scale, done = 1.0, 1
    while done < trials:
        moved = False
        for weights in _around(best.weights, scale):
            key = (weights.weight, weights.word_bonus)
            if done >= trials or key in tried:
                continue
            tried.add(key)
            trial = Trial(weights, rate(weights))
            done += 1
            yield trial
            if trial.rate < best.rate:
                best, moved = trial, True
                break
        if not moved:
            scale /= 2.0


def _around(weights: LmWeights, scale: float) -> Iterator[LmWeights]:
    """The neighbours of some weights; a language model never counts less than nothing."""
    weight_step, bonus_step = (step * scale for step in FIRST_STEPS)
    both = (weight_step, bonus_step), (-weight_step, -bonus_step)
    single = (weight_step, 0.0), (-weight_step, 0.0), (0.0, bonus_step), (0.0, -bonus_step)
    for more_weight, more_bonus in (*both, *single):
        weight = round(weights.weight + more_weight, 4)
        if weight >= 0.0:
            yield replace(
                weights, weight=weight, word_bonus=round(weights.word_bonus + more_bonus, 4)
            )
