"""N-gram counts of texts, and probabilities from them by modified Kneser-Ney smoothing.

Sources: Chen and Goodman, "An empirical study of smoothing techniques for language modeling"
(1999); Heafield, Pouzyrevsky, Clark and Koehn, "Scalable modified Kneser-Ney language model
estimation" (2013), sections 2 and 3.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auris.decoding.arpa import TEXT_ERRORS, open_text
from auris.decoding.language_model import SENTENCE_BEGIN, SENTENCE_END, SPECIAL_WORDS, UNKNOWN
from auris.decoding.spelling import LetterModel, learn_spelling
from auris.errors import TrainingError
from auris.text.normalize import spoken

LINES_AT_ONCE = 20_000

UNUSUAL = re.compile(r"[^a-z' \n]|(?<![a-z'])'|'(?![a-z'])")
"""What `spoken` would change in a line, apart from spaces."""

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Discounts of counts of 1, 2 and more where a text is too small to estimate them."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corpus:
    """Sentences as word ids.

    Attributes:
        vocabulary: `SPECIAL_WORDS` and all words, in the order of their spellings.
        ids: of all sentences one after another, each between its two marks. [T]
        spelling: of all words of the texts, those outside of the vocabulary too.
        sentences: how many there are.
        skipped: lines that do not say how they are spoken, such as lines with digits.
    """

    vocabulary: list[str]
    ids: NDArray[np.int32]
    spelling: LetterModel
    sentences: int
    skipped: int

    @property
    def words(self) -> int:
        """Number of words, without the marks of sentences."""
        return len(self.ids) - 2 * self.sentences


def sentences(paths: Iterable[Path]) -> Iterator[list[str | None]]:
    """Normalized lines of text files, many at a time; None for one that cannot be normalized.

    Raises:
        TrainingError: a file cannot be read.
    """
    for path in paths:
        try:
            with open_text(path) as lines:
                while block := list(islice(lines, LINES_AT_ONCE)):
                    if UNUSUAL.search("".join(block)):
                        yield [spoken(line) for line in block]
                    else:
                        yield [line.rstrip("\n") for line in block]
        except TEXT_ERRORS as error:
            raise TrainingError(
                f"The text {str(path)!r} cannot be read ({error})",
                "",
                "name text files in UTF-8, which may be compressed (.gz, .xz)",
            ) from None


def read_corpus(paths: Iterable[Path], most_words: int, least_count: int) -> Corpus:
    """Read texts, and choose their vocabulary.

    Args:
        paths: text files with a sentence a line.
        most_words: size of the vocabulary; the most frequent words are in it.
        least_count: how often a word has to occur to be in it.

    Raises:
        TrainingError: a file cannot be read, or no word is left.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    for word in SPECIAL_WORDS:
        numbers[word]
    ids, count, skipped = array("i"), 0, 0
    for lines in sentences(paths):
        spoken_lines = [line for line in lines if line]
        skipped += sum(line is None for line in lines)
        count += len(spoken_lines)
        text = " </s> <s> ".join(spoken_lines)
        if text:
            ids.extend(map(numbers.__getitem__, f"<s> {text} </s>".split()))
    first = np.frombuffer(ids, np.int32) if ids else np.empty(0, np.int32)
    vocabulary, renumbered = _choose_vocabulary(list(numbers), first, most_words, least_count)
    spelling = learn_spelling(list(numbers)[len(SPECIAL_WORDS) :])
    return Corpus(vocabulary, renumbered[first], spelling, count, skipped)


def _choose_vocabulary(
    words: Sequence[str], ids: NDArray[np.int32], most_words: int, least_count: int
) -> tuple[list[str], NDArray[np.int32]]:
    """The vocabulary, and the id in it of each of some words."""
    counts = np.bincount(ids, minlength=len(words))[len(SPECIAL_WORDS) :]
    frequent = np.argsort(-counts, kind="stable")[:most_words]
    chosen = [
        words[number + len(SPECIAL_WORDS)]
        for number in frequent.tolist()
        if counts[number] >= least_count
    ]
    if not chosen:
        raise TrainingError(
            "The texts of a language model have to hold words",
            f"no word occurs {least_count} times",
            "name text files with a sentence a line, or lower --min-count",
        )
    vocabulary = [*SPECIAL_WORDS, *sorted(chosen)]
    index = {word: number for number, word in enumerate(vocabulary)}
    return vocabulary, np.array([index.get(word, UNKNOWN) for word in words], np.int32)


@dataclass(frozen=True)
class NgramTable:
    """All n-grams of one length in a corpus, in the order of their words.

    Attributes:
        parents: index of the n-gram without its last word, among those of the length before.
        suffixes: index of the n-gram without its first word, there too.
        words: last words.
        first_words: first words.
        counts: how often each occurs.
        probabilities: of the last word after the others, by interpolation; empty until
            `estimate` computes them.
    """

    parents: Ints
    suffixes: Ints
    words: Ints
    first_words: Ints
    counts: Ints
    probabilities: Floats

    def __len__(self) -> int:
        return len(self.words)


def count_ngrams(corpus: Corpus, order: int) -> list[NgramTable]:
    """The n-grams of a corpus of the lengths 1 to `order`, without probabilities."""
    ids, size = corpus.ids, len(corpus.vocabulary)
    every, none = np.arange(size), np.zeros(size, np.int64)
    tables = [NgramTable(none, none, every, every, np.bincount(ids, minlength=size), np.empty(0))]
    # The n-gram that begins at each position, by its index in the table; -1 past a sentence's end.
    indices = ids
    for length in range(2, order + 1):
        ends = np.full(len(ids), SENTENCE_END, np.int32)
        ends[: len(ids) - length + 2] = ids[length - 2 :]
        begins = np.flatnonzero((indices >= 0) & (ends != SENTENCE_END))
        keys = indices[begins].astype(np.int64) * size + ids[begins + length - 1]
        order_of_keys = keys.argsort(kind="stable")
        keys = keys[order_of_keys]
        new = np.concatenate([[True], keys[1:] != keys[:-1]])
        starts = np.flatnonzero(new)
        samples = begins[order_of_keys[starts]]
        tables.append(
            NgramTable(
                parents=keys[starts] // size,
                suffixes=indices[samples + 1].astype(np.int64),
                words=keys[starts] % size,
                first_words=ids[samples].astype(np.int64),
                counts=np.diff(np.append(starts, len(keys))),
                probabilities=np.empty(0),
            )
        )
        indices = np.full(len(ids), -1, np.int32)
        indices[begins[order_of_keys]] = new.cumsum() - 1
    return tables


def estimate(tables: Sequence[NgramTable]) -> list[NgramTable]:
    """The n-grams with their probabilities."""
    estimated: list[NgramTable] = []
    for number, table in enumerate(tables):
        adjusted = table.counts
        if number + 1 < len(tables):
            adjusted = _continuations(table, tables[number + 1])
        totals = np.bincount(table.parents, adjusted)
        discounts = _discounts(adjusted)[np.minimum(adjusted, 3)]
        left = np.bincount(table.parents, discounts) / np.maximum(totals, 1.0)
        if number:
            shorter = estimated[-1].probabilities[table.suffixes]
        else:
            shorter = np.full(len(table), 1.0 / (len(table) - 1))
            shorter[SENTENCE_BEGIN] = 0.0
        own = (adjusted - discounts) / np.maximum(totals, 1.0)[table.parents]
        estimated.append(replace(table, probabilities=own + left[table.parents] * shorter))
    return estimated


def _continuations(table: NgramTable, longer: NgramTable) -> Ints:
    """The number of different words before each n-gram; its count where a sentence begins."""
    different = np.bincount(longer.suffixes, minlength=len(table))
    counts = np.where(table.first_words == SENTENCE_BEGIN, table.counts, different)
    if len(table) and table.words[0] == SENTENCE_BEGIN and table.first_words is table.words:
        counts[SENTENCE_BEGIN] = 0
    return counts


def _discounts(counts: Ints) -> Floats:
    """What is taken from counts of 0, 1, 2, and 3 or more."""
    one, two, three, four = (float((counts == number).sum()) for number in range(1, 5))
    if not one or not two or not three:
        return np.array([0.0, *FALLBACK_DISCOUNTS])
    share = one / (one + 2.0 * two)
    estimates = [
        1 - 2 * share * two / one,
        2 - 3 * share * three / two,
        3 - 4 * share * four / three,
    ]
    if not all(0.0 <= value <= number for number, value in enumerate(estimates, 1)):
        estimates = list(FALLBACK_DISCOUNTS)
    return np.array([0.0, *estimates])
