"""Times of words from a forced aligner: a mark before and after every word, and their repair.

Source: `Qwen3ASRProcessor` of transformers, `decode_forced_alignment`, itself after qwen-asr.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np
from torch import Tensor

from auris.backends.base import MarkBackend
from auris.config import AlignerConfig
from auris.errors import LanguageError
from auris.recognition.fallback import check_scores
from auris.recognition.recognizer import encode_samples
from auris.text.prompt import alignment_ids
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words
from auris.types import SAMPLE_RATE, Samples, Segment, Word

# fmt: off
LANGUAGES = (
    "Cantonese", "Chinese", "English", "French", "German", "Italian", "Japanese", "Korean",
    "Portuguese", "Russian", "Spanish",
)
# fmt: on
"""English names of what the published aligner was trained on."""

MAX_PASS_SECONDS = 180.0
"""Longest recording that is aligned in one pass, as in qwen-asr."""

TRUSTED_SECONDS = 120.0
"""Words that end later than this in a pass are aligned again by the next pass, because the number
of words in a pass is only an estimate."""

MOST_SNAPPED = 2
"""Largest number of outliers in a row that take a neighbour's time; more are interpolated."""

MOST_INTERPOLATED = 3
"""Largest number of interpolated marks in a row whose words have times."""


@dataclass(frozen=True)
class Marks:
    """Most probable times in ms of a prompt's marks, two a word, and their log-probabilities."""

    times: list[float]
    logprobs: list[float]


def repair(marked: Sequence[float]) -> tuple[list[int], list[int]]:
    """Times that never go back.

    The longest subsequence that never goes back is not changed. One or two marks in a row outside
    it get the time of the nearer neighbour inside it, the earlier one if both are as near; more are
    interpolated between the neighbours. If there is only one neighbour, they get its time.

    Returns:
        whole ms, and for each the length of the run of repaired marks that it belongs to, 0 for
        one that is not changed.
    """
    rising = _longest_rising(marked)
    repaired, runs = list(marked), [0] * len(marked)
    for begin, end in _runs(rising):
        before = marked[begin - 1] if begin > 0 else None
        after = marked[end] if end < len(marked) else None
        for index in range(begin, end):
            repaired[index] = _between(before, after, index - begin + 1, end - begin)
            runs[index] = end - begin
    return [int(time) for time in repaired], runs


def _longest_rising(marked: Sequence[float]) -> list[bool]:
    """Members of the longest subsequence that never goes back; of several, the reference's."""
    times = np.asarray(marked, dtype=np.float64)
    lengths, parents = np.ones(len(times), np.int64), np.full(len(times), -1)
    for index in range(1, len(times)):
        before = np.where(times[:index] <= times[index], lengths[:index], 0)
        best = int(before.argmax())
        if before[best] > 0:
            lengths[index], parents[index] = before[best] + 1, best
    rising = [False] * len(times)
    index = int(lengths.argmax()) if len(times) else -1
    while index >= 0:
        rising[index] = True
        index = int(parents[index])
    return rising


def _runs(rising: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Begin and end of every run of marks outside the rising subsequence."""
    end = 0
    for is_rising, run in groupby(rising):
        begin, end = end, end + len(list(run))
        if not is_rising:
            yield begin, end


def _between(before: float | None, after: float | None, step: int, count: int) -> float:
    """Time of the `step`-th of `count` marks in a row, from those around them."""
    if before is None or after is None:
        known = after if before is None else before
        assert known is not None  # The rising subsequence is not empty.
        return known
    if count <= MOST_SNAPPED:
        return before if step <= count + 1 - step else after
    return before + (after - before) / (count + 1) * step


class MarkAlignment:
    """Aligns words by a forced aligner."""

    def __init__(self, backend: MarkBackend, config: AlignerConfig, tokenizer: Tokenizer) -> None:
        self.backend, self.config, self.tokenizer = backend, config, tokenizer

    def check(self, language: str | None) -> None:
        if language is not None and language not in LANGUAGES:
            raise LanguageError(
                f"A forced aligner knows {', '.join(LANGUAGES)}",
                f"the language is {language}",
                "choose one of these, or align with a CTC head",
            )

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        self.check(language)
        words = [span.text for span in split_words(self.tokenizer.normalized(text), language)]
        return self._align(samples, words)

    def segment_words(
        self, samples: Samples, segment: Segment, states: Tensor | None = None
    ) -> list[Word]:
        return self.words(samples, segment.text, segment.language)

    def marks(self, samples: Samples, words: Sequence[str]) -> Marks:
        """The marks of one pass of the model, before any repair."""
        states = encode_samples(self.backend, self.config, samples)
        ids = alignment_ids(self.tokenizer, len(states), words)
        best, classes = self.backend.mark_logits(ids, states).log_softmax(-1).max(-1)
        check_scores(best.tolist())
        return Marks((classes.float() * self.config.segment_ms).tolist(), best.tolist())

    def _align(self, samples: Samples, words: Sequence[str]) -> list[Word]:
        """Words of a recording of any length, aligned in passes over parts of it.

        A pass begins where the last aligned word ends, so that a wrong estimate of the number of
        words in a pass is corrected by the next one.
        """
        done: list[Word] = []
        start = 0
        longest, trusted = (round(s * SAMPLE_RATE) for s in (MAX_PASS_SECONDS, TRUSTED_SECONDS))
        while len(done) < len(words):
            rest, left = samples[start:], words[len(done) :]
            if len(rest) <= longest:
                return done + self._shifted(rest, left, start)
            part = left[: _share(left, longest / len(rest))]
            aligned = self._shifted(rest[:longest], part, start)
            limit = (start + trusted) / SAMPLE_RATE
            # Words after the last one that certainly ends in time belong to the next pass.
            while aligned and (aligned[-1].end is None or aligned[-1].end > limit):
                aligned.pop()
            if aligned:
                done += aligned
                end = done[-1].end or 0.0
                # Rounded up, so that words do not overlap; the product may be rounded down.
                start = max(start, math.ceil(end * SAMPLE_RATE))
                start += start / SAMPLE_RATE < end
            else:
                start += trusted
        return done

    def _shifted(self, samples: Samples, words: Sequence[str], start: int) -> list[Word]:
        if not words:
            return []
        aligned = _words(words, self.marks(samples, words), len(samples) / SAMPLE_RATE)
        return [word.moved(start / SAMPLE_RATE) for word in aligned]


def _share(words: Sequence[str], part: float) -> int:
    """Estimated number of words in a part of the rest, at least one: letters are evenly spread."""
    letters = list(accumulate(len(word) for word in words))
    return max(1, sum(count <= part * letters[-1] for count in letters))


def _words(words: Sequence[str], marks: Marks, seconds: float) -> list[Word]:
    """Words with repaired times inside a clip of some length."""
    times, runs = repair(marks.times)
    aligned = []
    for index, text in enumerate(words):
        pair = slice(2 * index, 2 * index + 2)
        confidence = math.exp(math.fsum(marks.logprobs[pair]) / 2)
        if max(runs[pair]) > MOST_INTERPOLATED:
            aligned.append(Word(text, None, None, confidence))
            continue
        start, end = (time / 1000 for time in times[pair])
        repaired = end > seconds or max(runs[pair]) > 0
        aligned.append(Word(text, min(start, seconds), min(end, seconds), confidence, repaired))
    return aligned
