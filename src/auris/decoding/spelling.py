"""Letter trigrams, which give a probability to words that a language model does not know."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LETTERS = 63
"""Letters of the largest alphabet with trigrams; those of a larger one are equally probable."""

SMOOTHING = 5.0
"""How often a context has to occur until its own counts outweigh those of the shorter one."""


@dataclass(frozen=True)
class LetterModel:
    """How probable the letters of a word are. All other characters are equally probable.

    Attributes:
        letters: the alphabet.
        logprobs: natural-log probability of a letter after two others. The letters count from 1;
            0 is the beginning and the end of a word. [A + 1, A + 1, A + 1], or [1, 1, 1] where
            they are all equally probable.
    """

    letters: str
    logprobs: NDArray[np.floating[Any]]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = range(1, len(self.letters) + 1) if len(self.logprobs) > 1 else [0]
        numbers = [*numbers] * (len(self.letters) // len(numbers))
        index = dict(zip(self.letters, numbers, strict=True))
        object.__setattr__(self, "_index", index)

    def __contains__(self, letter: str) -> bool:
        return letter in self._index

    def prefix(self, text: str) -> float:
        """Natural-log probability that a word begins with these letters."""
        return self._sum(text)

    def word(self, text: str) -> float:
        """Natural-log probability of the word with exactly these letters."""
        return self._sum(text, 0)

    def _sum(self, text: str, *end: int) -> float:
        """The sum over the letters of a word, and over its end if that is given."""
        total, before, last = 0.0, 0, 0
        for index in (*map(self._index.get, text), *end):
            if index is None:
                total -= math.log(len(self.letters) + 1)
                before = last = 0
            else:
                total += float(self.logprobs[before, last, index])
                before, last = last, index
        return total


def learn_spelling(words: Iterable[str]) -> LetterModel:
    """The spelling of words, each of which counts once."""
    words = list(words)
    letters = "".join(sorted({letter for word in words for letter in word}))
    size = len(letters) + 1
    if size > MOST_LETTERS + 1:
        return LetterModel(letters, np.full((1, 1, 1), -np.log(size), np.float32))
    index = {letter: number for number, letter in enumerate(letters, 1)}
    counts = np.zeros((size, size, size))
    for word in words:
        path = [0, 0, *(index[letter] for letter in word), 0]
        for gram in zip(path, path[1:], path[2:], strict=False):
            counts[gram] += 1
    one = counts.sum((0, 1)) + 1.0
    two = _smoothed(counts.sum(0), one / one.sum())
    three = _smoothed(counts, two)
    return LetterModel(letters, np.log(three).astype(np.float32))


def _smoothed(counts: NDArray[np.float64], shorter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of the last axis, mixed with those of shorter contexts."""
    totals = counts.sum(-1, keepdims=True) + SMOOTHING
    mixed: NDArray[np.float64] = (counts + SMOOTHING * shorter) / totals
    return mixed
