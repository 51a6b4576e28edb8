"""Words in time by a forced aligner: a mark before and after every word, and their repair.

Source: `Qwen3ASRProcessor` of transformers, `decode_forced_alignment`, itself after qwen-asr.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from auris.audio.features import log_mel
from auris.backends.base import MarkBackend
from auris.config import AlignerConfig
from auris.errors import LanguageError
from auris.recognition.fallback import check_scores
from auris.text.prompt import alignment_ids
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words
from auris.types import SAMPLE_RATE, Samples, Segment, Word

__all__ = ["LANGUAGES", "MarkAlignment", "Marks", "repair"]

LANGUAGES = (
    "Cantonese",
    "Chinese",
    "English",
    "French",
    "German",
    "Italian",
    "Japanese",
    "Korean",
    "Portuguese",
    "Russian",
    "Spanish",
)
"""English names of what the published aligner was trained on."""

PIECE_SECONDS = 180.0
"""Longest recording that is aligned in one pass, as in qwen-asr."""

TRUSTED_SECONDS = 120.0
"""Of a piece that is followed by others, words that end later are placed by the next one: which
words the piece's end holds is only guessed."""

MOST_SNAPPED = 2
"""Outliers in a row, at most, that take a neighbour's time; more are interpolated."""

MOST_INTERPOLATED = 3
"""Interpolated marks in a row, at most, whose times are told; of more nothing is known."""


@dataclass(frozen=True)
class Marks:
    """Times in ms of a prompt's marks: start and end of a word, one word after the other.

    Attributes:
        heard: the most probable time of each.
        logprobs: its natural-log probability.
    """

    heard: list[float]
    logprobs: list[float]


def repair(heard: Sequence[float]) -> tuple[list[int], list[int]]:
    """Times that never go back.

    The longest subsequence that never goes back stays. One or two marks in a row outside it take
    the time of the nearer neighbour inside it, the earlier one where both are as near; more are
    interpolated between the neighbours. Where there is one neighbour only, its time is taken.

    Args:
        heard: ms.

    Returns:
        whole ms, and for each the length of the run of repaired marks that it belongs to, 0 for
        one that stays.
    """
    stays = _longest_rising(heard)
    repaired, runs = list(heard), [0] * len(heard)
    for begin, end in _runs(stays):
        before = heard[begin - 1] if begin > 0 else None
        after = heard[end] if end < len(heard) else None
        for place in range(begin, end):
            repaired[place] = _between(before, after, place - begin + 1, end - begin)
            runs[place] = end - begin
    return [int(time) for time in repaired], runs


def _longest_rising(heard: Sequence[float]) -> list[bool]:
    """Which times belong to the longest subsequence that never goes back; of equally long ones
    the one that the reference finds."""
    times = np.asarray(heard, dtype=np.float64)
    lengths, parents = np.ones(len(times), np.int64), np.full(len(times), -1)
    for place in range(1, len(times)):
        before = np.where(times[:place] <= times[place], lengths[:place], 0)
        best = int(before.argmax())
        if before[best] > 0:
            lengths[place], parents[place] = before[best] + 1, best
    stays = [False] * len(times)
    place = int(lengths.argmax()) if len(times) else -1
    while place >= 0:
        stays[place] = True
        place = int(parents[place])
    return stays


def _runs(stays: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Begin and end of every run of marks that do not stay."""
    end = 0
    for kept, run in groupby(stays):
        begin, end = end, end + len(list(run))
        if not kept:
            yield begin, end


def _between(before: float | None, after: float | None, step: int, count: int) -> float:
    """Time of the `step`-th of `count` marks in a row, from those around them."""
    if before is None or after is None:
        known = after if before is None else before
        assert known is not None  # Something always stays.
        return known
    if count <= MOST_SNAPPED:
        return before if step <= count + 1 - step else after
    return before + (after - before) / (count + 1) * step


class MarkAlignment:
    """Places words by a forced aligner.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its vocabulary.
    """

    def __init__(self, backend: MarkBackend, config: AlignerConfig, tokenizer: Tokenizer) -> None:
        self.backend = backend
        self.config = config
        self.tokenizer = tokenizer

    def check(self, language: str | None) -> None:
        """Refuse a language that the model was not trained on.

        Raises:
            LanguageError: it is another.
        """
        if language is not None and language not in LANGUAGES:
            raise LanguageError(
                f"A forced aligner knows {', '.join(LANGUAGES)}",
                f"{language} was asked",
                "choose one of these, or align with a CTC head",
            )

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        """The words of a text that is said in a recording.

        Args:
            samples: float32 [S] of any length.
            text: what is said.
            language: English name, or None to cut words at spaces.

        Raises:
            LanguageError: the model does not know the language.
            MissingExtra: the language's words need a package that is not installed.
        """
        self.check(language)
        words = [span.text for span in split_words(self.tokenizer.normalized(text), language)]
        return self._place(samples, words)

    def segment_words(self, samples: Samples, segment: Segment) -> list[Word]:
        """The words of a piece that was transcribed; arguments and errors as of `words`."""
        return self.words(samples, segment.text, segment.language)

    def marks(self, samples: Samples, words: Sequence[str]) -> Marks:
        """What one pass of the model hears of words in a recording, before any repair.

        Raises:
            CheckpointError: the scores are no numbers.
        """
        config = self.config
        mel = log_mel(samples, config.frontend, config.encoder.mel_bins)
        (states,) = self.backend.encode([mel])
        ids = alignment_ids(self.tokenizer, len(states), words)
        best, classes = self.backend.mark_logits(ids, states).log_softmax(-1).max(-1)
        check_scores(best.tolist())
        return Marks((classes.float() * config.segment_ms).tolist(), best.tolist())

    def _place(self, samples: Samples, words: Sequence[str]) -> list[Word]:
        """Words of a recording of any length, one piece after the other.

        A piece begins where the last word that was placed ends, so that a wrong guess of how many
        words a piece holds is made good by the next one.
        """
        placed: list[Word] = []
        start = 0
        piece, trusted = (round(s * SAMPLE_RATE) for s in (PIECE_SECONDS, TRUSTED_SECONDS))
        while len(placed) < len(words):
            rest, left = samples[start:], words[len(placed) :]
            if len(rest) <= piece:
                return placed + self._shifted(rest, left, start)
            found = self._shifted(rest[:piece], left[: _share(left, piece / len(rest))], start)
            limit = (start + trusted) / SAMPLE_RATE
            sure = [n for n, word in enumerate(found) if word.end is not None and word.end <= limit]
            if sure:
                placed += found[: sure[-1] + 1]
                # Not before its end, by however little: words do not overlap.
                start = max(start, math.ceil((placed[-1].end or 0.0) * SAMPLE_RATE))
            else:
                start += trusted
        return placed

    def _shifted(self, samples: Samples, words: Sequence[str], start: int) -> list[Word]:
        if not words:
            return []
        found = _words(words, self.marks(samples, words), len(samples) / SAMPLE_RATE)
        return [word.moved(start / SAMPLE_RATE) for word in found]


def _share(words: Sequence[str], part: float) -> int:
    """How many of the words a part of the remaining recording holds, at least one, if their
    letters are spread evenly."""
    reached = list(accumulate(len(word) for word in words))
    return max(1, sum(letters <= part * reached[-1] for letters in reached))


def _words(words: Sequence[str], marks: Marks, seconds: float) -> list[Word]:
    """Words with repaired times inside a clip of some length."""
    times, runs = repair(marks.heard)
    placed = []
    for index, text in enumerate(words):
        pair = slice(2 * index, 2 * index + 2)
        confidence = math.exp(math.fsum(marks.logprobs[pair]) / 2)
        if max(runs[pair]) > MOST_INTERPOLATED:
            placed.append(Word(text, None, None, confidence))
            continue
        start, end = (time / 1000 for time in times[pair])
        beyond = end > seconds
        placed.append(
            Word(
                text,
                min(start, seconds),
                min(end, seconds),
                confidence,
                repaired=beyond or max(runs[pair]) > 0,
            )
        )
    return placed
