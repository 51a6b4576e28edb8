"""Fits maps from log-probabilities to confidences on one half of some clips; measures on the other.

A word is right where jiwer's alignment pairs it with an equal word of the reference. The maps are
logistic regressions (Platt, "Probabilistic outputs for support vector machines", 1999) on the
features of `auris.recognition.confidence`. The expected calibration error is that of Guo, Pleiss,
Sun and Weinberger, "On calibration of modern neural networks" (2017): the mean distance of
probability and share in ten bins of equal width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.checkpoints.calibration import Calibration, Logistic
from auris.errors import UsageError
from auris.evaluation.wer import normalizer_named, require_jiwer
from auris.pipeline import AsrPipeline
from auris.recognition.confidence import (
    lowest_of_words,
    mean_text_logprob,
    scored_words,
    silence_features,
    token_features,
    word_features,
)
from auris.recognition.scheduler import Failure
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words
from auris.types import Segment

__all__ = [
    "BINS",
    "CalibrationClip",
    "ScoredItem",
    "bins",
    "ece",
    "fit",
    "measure",
    "transcribe_set",
    "two_halves",
]

BINS = 10

RIDGE = 0.1
"""Weight of the squares of the fitted weights, so that separable data have a fit."""

SILENCE_COUNTS = (
    "speech_words",
    "right_words",
    "suppressed_words",
    "suppressed_right_words",
    "silent_clips",
    "silent_clips_with_words",
    "silent_words",
    "silent_words_left",
)

MARGIN = 1.0
"""By how much in log-odds the threshold of silence lies above all speech that was fitted to."""

LEAST_THRESHOLD = 0.5
"""Speech is never suppressed while it is at least as probable as silence."""


@dataclass(frozen=True)
class ScoredItem:
    """A token or word: its features, the model's own probability, and whether it is right."""

    features: tuple[float, ...]
    raw: float
    right: bool


@dataclass(frozen=True)
class CalibrationClip:
    """A clip that was transcribed without calibration.

    Attributes:
        name: the names of the set and the file.
        speech: whether its reference has words.
        words, tokens: those whose tokens are known.
        silence: features of each of its chunks, and whether the chunk has text.
        seconds: its length.
    """

    name: str
    speech: bool
    words: tuple[ScoredItem, ...]
    tokens: tuple[ScoredItem, ...]
    silence: tuple[tuple[tuple[float, ...], bool], ...]
    seconds: float


def transcribe_set(
    pipeline: AsrPipeline, name: str, texts: Mapping[Path, str], batch_size: int = 1
) -> tuple[list[CalibrationClip], dict[str, str]]:
    """Transcribe a set.

    Args:
        pipeline: with a recognizer that has no calibration.
        name: the name of the set.
        texts: transcripts by file; empty where nobody speaks.
        batch_size: most chunks decoded at once.

    Returns:
        the clips, and why others could not be transcribed.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    judge = _Judge(pipeline.recognizer.tokenizer, require_jiwer(), normalizer_named("spoken"))
    files = list(texts)
    clips, failed = [], {}
    results = pipeline.results([str(file) for file in files], batch_size=batch_size)
    for number, result in sorted(results, key=lambda pair: pair[0]):
        file = files[number]
        if isinstance(result, Failure):
            failed[str(file)] = str(result.error)
            continue
        clip = judge.clip(f"{Path(name).stem}/{file.name}", texts[file], result.segments)
        clips.append(clip)
    return clips, failed


@dataclass(frozen=True)
class _Judge:
    """Decides which words and tokens of a transcript are right."""

    tokenizer: Tokenizer
    jiwer: Any
    normalize: Callable[[str], str]

    def clip(self, name: str, reference: str, segments: Sequence[Segment]) -> CalibrationClip:
        spoken = self.normalize(reference).split()
        shown = [
            segment.text[span.start : span.end]
            for segment in segments
            for span in split_words(segment.text)
        ]
        right = iter(self._right(spoken, [self.normalize(word).split() for word in shown]))
        words: list[ScoredItem] = []
        tokens: list[ScoredItem] = []
        silence = []
        for segment in segments:
            scored = scored_words(self.tokenizer, segment.tokens, segment.text)
            marks = [next(right) for _ in scored]
            mean = mean_text_logprob(segment.logprobs, scored)
            no_speech = segment.no_speech_probability
            probe = math.log(max(no_speech, 1e-300)) if no_speech is not None else None
            silence.append((silence_features(probe, mean), bool(segment.text)))
            if mean is None or segment.retries:
                continue  # After a fallback the halves of a chunk were scored separately.
            words += _words(segment, [word.tokens for word in scored], marks, mean)
            lowest = lowest_of_words(segment.logprobs, scored)
            wrong = {n for word, m in zip(scored, marks, strict=True) if not m for n in word.tokens}
            for index, least in lowest.items():
                logprob = segment.logprobs[index]
                features = token_features(logprob, least, mean)
                tokens.append(ScoredItem(features, math.exp(logprob), index not in wrong))
        seconds = sum(segment.end - segment.start for segment in segments)
        return CalibrationClip(
            name, bool(spoken), tuple(words), tuple(tokens), tuple(silence), seconds
        )

    def _right(self, spoken: list[str], shown: list[list[str]]) -> list[bool]:
        """Which words are right. A word with several spoken words is right if all of them are."""
        hypothesis = [word for words in shown for word in words]
        # jiwer refuses an empty reference.
        marked = self.jiwer.process_words(" ".join(["=", *spoken]), " ".join(["=", *hypothesis]))
        equal = set()
        for part in marked.alignments[0]:
            if part.type == "equal":
                equal |= {index - 1 for index in range(part.hyp_start_idx, part.hyp_end_idx)}
        right, first = [], 0
        for words in shown:
            right.append(bool(words) and equal.issuperset(range(first, first + len(words))))
            first += len(words)
        return right


def _words(
    segment: Segment, words: Iterable[tuple[int, ...]], marks: Iterable[bool], mean: float
) -> list[ScoredItem]:
    items = []
    for tokens, mark in zip(words, marks, strict=True):
        if tokens:
            logprobs = [segment.logprobs[index] for index in tokens]
            raw = math.exp(math.fsum(logprobs) / len(logprobs))
            items.append(ScoredItem(word_features(logprobs, mean), raw, mark))
    return items


def two_halves(
    clips: Iterable[CalibrationClip],
) -> tuple[list[CalibrationClip], list[CalibrationClip]]:
    """Clips to fit on and clips to measure on, by a hash of their names alone."""
    halves: tuple[list[CalibrationClip], list[CalibrationClip]] = ([], [])
    for clip in clips:
        halves[hashlib.sha256(clip.name.encode()).digest()[0] % 2].append(clip)
    return halves


def fit(clips: Sequence[CalibrationClip]) -> Calibration:
    """Fit a calibration to some clips.

    Raises:
        UsageError: right or wrong words, speech or silence are missing.
    """
    words = [word for clip in clips for word in clip.words]
    tokens = [token for clip in clips for token in clip.tokens]
    silence = _logistic(
        [features for clip in clips for features, _ in clip.silence],
        [not clip.speech for clip in clips for _ in clip.silence],
        "chunks with and without speech",
    )
    speech = [
        silence(features)
        for clip in clips
        if clip.speech and any(word.right for word in clip.words)
        for features, has_text in clip.silence
        if has_text
    ]
    return Calibration(
        token=_logistic([t.features for t in tokens], [t.right for t in tokens]),
        word=_logistic([w.features for w in words], [w.right for w in words]),
        silence=silence,
        silence_threshold=_threshold(speech),
    )


def _threshold(speech: Iterable[float]) -> float:
    """A probability of silence that speech does not reach.

    Args:
        speech: the probabilities of silence of chunks in which some words are right.
    """
    most = min(max(speech, default=0.0), 1.0 - 1e-9)
    odds = most / (1.0 - most) * math.exp(MARGIN)
    return max(LEAST_THRESHOLD, odds / (1.0 + odds))


def _logistic(
    features: Sequence[Sequence[float]],
    right: Sequence[bool],
    what: str = "words that are right and words that are wrong",
) -> Logistic:
    """Logistic regression by Newton's method, with steps that are halved until the loss falls."""
    if len(set(right)) < 2:
        raise UsageError(
            f"A calibration is fitted to {what}", "the test sets lack one of them", "add a set"
        )
    x = np.column_stack([np.ones(len(features)), np.array(features, dtype=np.float64)])
    y = np.array(right, dtype=np.float64)
    ridge = RIDGE * np.eye(x.shape[1])
    ridge[0, 0] = 1e-9

    def loss(weights: NDArray[np.float64]) -> float:
        scores = x @ weights
        return float((np.logaddexp(0.0, scores) - y * scores).sum() + weights @ ridge @ weights / 2)

    weights = np.zeros(x.shape[1])
    for _ in range(100):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -50.0, 50.0)))
        gradient = x.T @ (fitted - y) + ridge @ weights
        hessian = (x * (fitted * (1.0 - fitted))[:, None]).T @ x + ridge
        step = np.linalg.solve(hessian, gradient)
        before = loss(weights)
        while loss(weights - step) > before and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    bias, *rest = (round(float(weight), 6) for weight in weights)
    return Logistic(bias, tuple(rest))


def bins(probabilities: Sequence[float], shares: Sequence[float]) -> list[tuple[float, float, int]]:
    """Mean probability, mean share and count of each of `BINS` bins; zeros of an empty one."""
    columns: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for probability, share in zip(probabilities, shares, strict=True):
        columns[min(int(probability * BINS), BINS - 1)].append((probability, share))
    return [
        (sum(c for c, _ in one) / len(one), sum(s for _, s in one) / len(one), len(one))
        if one
        else (0.0, 0.0, 0)
        for one in columns
    ]


def ece(probabilities: Sequence[float], shares: Sequence[float]) -> float | None:
    """Expected calibration error; None without items."""
    if not probabilities:
        return None
    return sum(n * abs(c - s) for c, s, n in bins(probabilities, shares)) / len(probabilities)


def measure(calibration: Calibration, clips: Sequence[CalibrationClip]) -> dict[str, Any]:
    """How well a calibration fits clips: plain JSON values.

    Calibration errors are by words, by tokens and by clips (the mean confidence of a clip compared
    with its share of right words, counted once for every word). `raw` are those of the model's own
    probabilities.
    """
    words = [word for clip in clips for word in clip.words]
    tokens = [token for clip in clips for token in clip.tokens]
    right = [float(word.right) for word in words]
    probabilities = [calibration.word(word.features) for word in words]
    return {
        "clips": len(clips),
        "words": len(words),
        "right": sum(word.right for word in words),
        "ece": ece(probabilities, right),
        "raw_ece": ece([word.raw for word in words], right),
        "token_ece": ece(
            [calibration.token(token.features) for token in tokens],
            [float(token.right) for token in tokens],
        ),
        "raw_token_ece": ece([t.raw for t in tokens], [float(t.right) for t in tokens]),
        "clip_ece": _clip_ece(calibration, clips),
        "bins": bins(probabilities, right),
        "raw_bins": bins([word.raw for word in words], right),
        "silence": _measure_silence(calibration, clips),
    }


def _clip_ece(calibration: Calibration, clips: Sequence[CalibrationClip]) -> float | None:
    probabilities: list[float] = []
    shares: list[float] = []
    for clip in clips:
        if clip.words:
            mean = sum(calibration.word(word.features) for word in clip.words) / len(clip.words)
            share = sum(word.right for word in clip.words) / len(clip.words)
            probabilities += [mean] * len(clip.words)
            shares += [share] * len(clip.words)
    return ece(probabilities, shares)


def _measure_silence(calibration: Calibration, clips: Sequence[CalibrationClip]) -> dict[str, int]:
    """Words that are suppressed as silence, by whether somebody speaks. A clip of several chunks
    counts as suppressed where all of them are."""
    counts = dict.fromkeys(SILENCE_COUNTS, 0)
    for clip in clips:
        chunks = [features for features, has_text in clip.silence if has_text]
        suppressed = all(calibration.silence(c) > calibration.silence_threshold for c in chunks)
        words = len(clip.words)
        right = sum(word.right for word in clip.words)
        if clip.speech:
            counts["speech_words"] += words
            counts["right_words"] += right
            counts["suppressed_words"] += words if suppressed else 0
            counts["suppressed_right_words"] += right if suppressed else 0
        else:
            counts["silent_clips"] += 1
            counts["silent_clips_with_words"] += bool(words)
            counts["silent_words"] += words
            counts["silent_words_left"] += 0 if suppressed else words
    return counts
