"""Fits the weights of a language model on development sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from auris.checkpoints.ctc_head import CTC_HEAD
from auris.checkpoints.lm_weights import LmWeights
from auris.errors import UsageError
from auris.evaluation.wer import score_set
from auris.pipeline import AsrPipeline
from auris.recognition.qwen import QwenRecognizer

FIRST_STEPS = {"weight": 0.2, "word_bonus": 1.0, "ctc_weight": 0.1}
"""Distances of the first trials. No number but the word bonus falls below 0."""


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

    has_decoder = isinstance(pipeline.recognizer, QwenRecognizer)
    with_ctc_head = has_decoder and (pipeline.model.directory / CTC_HEAD).exists()
    yield from pattern_search(rate, start, trials, with_ctc_head)


def pattern_search(
    rate: Callable[[LmWeights], float],
    start: LmWeights,
    trials: int,
    with_ctc_head: bool = False,
) -> Iterator[Trial]:
    """Try weights around the best ones so far, closer and closer.

    Args:
        rate: measures the mean error rate with some weights.
        start: the first weights.
        trials: how many weights are tried.
        with_ctc_head: whether to try other weights of a CTC head, too.

    Yields:
        every trial, in order.
    """
    best = Trial(start, rate(start))
    tried = {_numbers(start)}
    yield best
    scale, done = 1.0, 1
    while done < trials:
        moved = False
        for weights in _around(best.weights, scale, with_ctc_head):
            key = _numbers(weights)
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


def _numbers(weights: LmWeights) -> tuple[float, ...]:
    return tuple(getattr(weights, name) for name in FIRST_STEPS)


def _around(weights: LmWeights, scale: float, with_ctc_head: bool) -> Iterator[LmWeights]:
    """The neighbours of some weights: with a change of one number, and with the weight and the
    word bonus changed together."""
    pairs = [("weight", "word_bonus"), ("weight",), ("word_bonus",)]
    for names in [*pairs, ("ctc_weight",)] if with_ctc_head else pairs:
        for sign in (1.0, -1.0):
            changes = {
                name: round(getattr(weights, name) + sign * scale * FIRST_STEPS[name], 4)
                for name in names
            }
            if all(value >= 0.0 or name == "word_bonus" for name, value in changes.items()):
                yield replace(weights, **changes)
