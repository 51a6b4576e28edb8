"""An n-gram language model over words: probabilities of words, and of their beginnings.

The n-grams lie in sorted arrays, one `Level` for each length. Word ids follow the order of the
spellings, so all words with the same first letters have adjacent ids, and the probability of a
beginning is a sum over a range of ids. A word that the model does not know is spelled by a
trigram of letters.

Sources: Katz, "Estimation of probabilities from sparse data" (1987), for backing off; Heafield,
"KenLM: faster and smaller language model queries" (2011), for the state of a query; Ortmanns, Ney
and Eiden, "Language-model look-ahead for large vocabulary speech recognition" (1996).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.decoding.spelling import LetterModel

SENTENCE_BEGIN, SENTENCE_END, UNKNOWN = range(3)
SPECIAL_WORDS = ("<s>", "</s>", "<unk>")
"""The first words of every vocabulary, with the ids `SENTENCE_BEGIN` to `UNKNOWN`."""

IMPOSSIBLE = -99.0
"""Natural-log probability of what cannot follow, as the beginning of a sentence."""

LAST_LETTER = "\U0010ffff"

LEAST = 1e-13
"""Sums of probabilities below this are rounding errors."""

BLOCK = 64
"""n-grams of a level whose numbers of continuations are summed up once."""

MOST_HISTORIES = 5_000
"""Histories and beginnings that are cached; the caches are emptied when there are more."""


@dataclass(frozen=True)
class Level:
    """All n-grams of one length, sorted by their words.

    Attributes:
        words: last word of each n-gram, [N].
        logprobs: natural-log probability of the last word after the others [N], or its index in
            `logprob_table`.
        children: how many n-grams of the next level continue each, [N]; None in the last level.
        backoffs: natural-log weight of shorter histories after the n-gram [N], or its index in
            `backoff_table`; None in the last level.
        logprob_table, backoff_table: values by index; None where the arrays hold values.
    """

    words: NDArray[Any]
    logprobs: NDArray[Any]
    children: NDArray[Any] | None = None
    backoffs: NDArray[Any] | None = None
    logprob_table: NDArray[np.float32] | None = None
    backoff_table: NDArray[np.float32] | None = None

    def logprob(self, index: Any) -> Any:
        """Log-probabilities of one n-gram, or of several."""
        stored = self.logprobs[index]
        return stored if self.logprob_table is None else self.logprob_table[stored]

    def backoff(self, index: Any) -> Any:
        """Log backoff weights of one n-gram, or of several."""
        assert self.backoffs is not None
        stored = self.backoffs[index]
        return stored if self.backoff_table is None else self.backoff_table[stored]

    def span(self, index: int) -> tuple[int, int]:
        """The first n-gram of the next level that continues one of this level, and the end."""
        assert self.children is not None
        block = index // BLOCK
        within = self.children[block * BLOCK : index].sum(dtype=np.int64)
        start = int(self._block_starts[block] + within)
        return start, start + int(self.children[index])

    @cached_property
    def _block_starts(self) -> NDArray[np.int64]:
        """The first n-gram of the next level for every block of this one. Starts of all n-grams
        would take most of the time of loading a model."""
        assert self.children is not None
        if not len(self.children):
            return np.zeros(0, np.int64)
        firsts = np.arange(0, len(self.children), BLOCK)
        sums = np.add.reduceat(self.children, firsts, dtype=np.int64)
        return np.concatenate([[0], sums.cumsum()[:-1]])


class History:
    """The words before the next one, as far as the model distinguishes them.

    Args:
        model: the model.
        level: the number of words.
        index: of the n-gram of these words in its level.
        shorter: the history without its first word; None for no words at all.
    """

    __slots__ = (
        "_backoff",
        "_backoff_factor",
        "_cumulative",
        "_end",
        "_level",
        "_model",
        "_next",
        "_start",
        "_unknown",
        "shorter",
    )

    def __init__(
        self, model: LanguageModel, level: int, index: int, shorter: History | None
    ) -> None:
        self._model = model
        self._level = level
        self.shorter = shorter
        self._next: dict[int, History] = {}
        self._cumulative: memoryview | None = None
        self._unknown: float | None = None
        if shorter is None:
            self._start, self._end, self._backoff = 0, len(model.vocabulary), 0.0
            return
        own = model.levels[level - 1]
        self._start, self._end = own.span(index)
        self._backoff = float(own.backoff(index))
        self._backoff_factor = math.exp(self._backoff)

    def _find(self, word: int) -> int | None:
        """Index of the n-gram of this history and a word."""
        if self.shorter is None:
            return word
        words = self._model.word_views[self._level]
        index = bisect_left(words, word, self._start, self._end)
        return index if index < self._end and words[index] == word else None

    def logprob(self, word: int) -> float:
        """Natural-log probability of a word."""
        index = self._find(word)
        if index is not None:
            return float(self._model.levels[self._level].logprob(index))
        assert self.shorter is not None
        return self._backoff + self.shorter.logprob(word)

    @property
    def unknown(self) -> float:
        """Natural-log probability of a word that is not in the vocabulary."""
        if self._unknown is None:
            self._unknown = self.logprob(UNKNOWN)
        return self._unknown

    def logprobs(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural-log probabilities of several words, [N]."""
        level = self._model.levels[self._level]
        if self.shorter is None:
            return np.asarray(level.logprob(words), np.float64)
        values = self._backoff + self.shorter.logprobs(words)
        if self._end > self._start:
            listed = np.asarray(level.words[self._start : self._end], np.int64)
            indices = np.minimum(listed.searchsorted(words), len(listed) - 1)
            same = listed[indices] == words
            values[same] = level.logprob(self._start + indices[same])
        return values

    def probability(self, first: int, end: int) -> float:
        """Probability that the next word has an id from `first` to `end - 1`."""
        cumulative = self._cumulative or self._sum()
        if self.shorter is None:
            return float(cumulative[end] - cumulative[first])
        total = self._backoff_factor * self.shorter.probability(first, end)
        if self._end > self._start:
            words = self._model.word_views[self._level]
            left = bisect_left(words, first, self._start, self._end)
            right = bisect_left(words, end, left, self._end)
            total += cumulative[right - self._start] - cumulative[left - self._start]
        return total

    def _sum(self) -> memoryview:
        """Sums of the probabilities of the words of this history, in addition to those that the
        shorter history gives them."""
        level = self._model.levels[self._level]
        own = np.exp(np.asarray(level.logprob(slice(self._start, self._end)), np.float64))
        if self.shorter is not None:
            words = np.asarray(level.words[self._start : self._end], np.int64)
            own -= np.exp(self._backoff + self.shorter.logprobs(words))
        self._cumulative = np.concatenate([[0.0], own.cumsum()]).data
        return self._cumulative

    def then(self, word: int) -> History:
        """The history with one more word at its end, as short as gives the same answers."""
        known = self._next.get(word)
        if known is None:
            known = self._next[word] = self._then(word)
        return known

    def clear(self) -> None:
        """Forget the histories after this one."""
        self._next.clear()

    def _then(self, word: int) -> History:
        model = self._model
        shorter = model.empty if self.shorter is None else self.shorter.then(word)
        index = self._find(word)
        if index is None or self._level + 1 >= len(model.levels):
            return shorter
        longer = model.history(self._level + 1, index, shorter)
        idle = longer._start == longer._end and longer._backoff == 0.0
        return shorter if idle else longer


class LanguageModel:
    """An n-gram model.

    Args:
        vocabulary: `SPECIAL_WORDS`, then all words in the order of their spellings.
        levels: the n-grams of one word, of two, and so on.
        spelling: of words that are not in the vocabulary.
        unknown_penalty: added to the log-probability of such a word.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        levels: Sequence[Level],
        spelling: LetterModel,
        unknown_penalty: float = 0.0,
    ) -> None:
        self.vocabulary = vocabulary
        self.levels = list(levels)
        self.spelling = spelling
        self.unknown_penalty = unknown_penalty
        self.word_views = [np.ascontiguousarray(level.words).data for level in levels]
        self._histories: dict[tuple[int, int], History] = {}
        self._beginnings: dict[str, tuple[int, int, float]] = {}
        self.empty = History(self, 0, 0, None)

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.levels)

    def start(self) -> History:
        """The history at the beginning of a sentence."""
        if len(self._histories) > MOST_HISTORIES or len(self._beginnings) > MOST_HISTORIES:
            self._clear()
        return self.empty.then(SENTENCE_BEGIN)

    def _clear(self) -> None:
        """Empty the caches. Histories refer to each other in circles, which are broken, so that
        they do not wait for the garbage collector."""
        for history in (self.empty, *self._histories.values()):
            history.clear()
        self._histories.clear()
        self._beginnings.clear()

    def history(self, level: int, index: int, shorter: History) -> History:
        """The history of the words of an n-gram; one object for each n-gram while it is cached."""
        key = (level, index)
        if key not in self._histories:
            self._histories[key] = History(self, level, index, shorter)
        return self._histories[key]

    def id(self, word: str) -> int:
        """The id of a word; `UNKNOWN` if the vocabulary lacks it."""
        index = self._bound(word)
        known = index < len(self.vocabulary) and self.vocabulary[index] == word
        return index if known else UNKNOWN

    def is_known(self, word: str) -> bool:
        """Whether the vocabulary has a word."""
        return self.id(word) != UNKNOWN

    def _bound(self, word: str) -> int:
        return bisect_left(self.vocabulary, word, len(SPECIAL_WORDS))

    def word(self, history: History, word: str) -> tuple[float, History]:
        """Natural-log probability of a word, and the history after it."""
        number = self.id(word)
        logprob = history.logprob(number)
        if number == UNKNOWN:
            logprob += self.unknown_penalty + self.spelling.word(word)
        return logprob, history.then(number)

    def end(self, history: History) -> float:
        """Natural-log probability that the sentence ends."""
        return history.logprob(SENTENCE_END)

    def prefix(self, history: History, letters: str) -> float:
        """Natural-log probability that the next word begins with these letters; 0 for none."""
        if not letters:
            return 0.0
        beginning = self._beginnings.get(letters)
        if beginning is None:
            spelled = self.unknown_penalty + self.spelling.prefix(letters)
            first, end = self._bound(letters), self._bound(letters + LAST_LETTER)
            beginning = self._beginnings[letters] = first, end, spelled
        first, end, spelled = beginning
        unknown = spelled + history.unknown
        known = history.probability(first, end) if end > first else 0.0
        # Rounding of the sums can leave less than nothing of a very improbable beginning.
        return unknown if known < LEAST else math.log(known + math.exp(unknown))

    def sentence(self, words: Sequence[str]) -> list[float]:
        """Natural-log probabilities of the words of a sentence, and of its end."""
        history, logprobs = self.start(), []
        for word in words:
            logprob, history = self.word(history, word)
            logprobs.append(logprob)
        return [*logprobs, self.end(history)]
