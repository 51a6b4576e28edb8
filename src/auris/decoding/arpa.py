"""Language models in the ARPA format, as KenLM and SRILM write it."""

from __future__ import annotations

import gzip
import lzma
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from auris.decoding.language_model import (
    IMPOSSIBLE,
    SPECIAL_WORDS,
    UNKNOWN,
    LanguageModel,
    Level,
)
from auris.decoding.spelling import learn_spelling
from auris.errors import CheckpointError

LN10 = math.log(10.0)
MOST_ORDER = 5
UNKNOWN_SPELLINGS = ("<unk>", "<UNK>", "<unknown>")
HEADER = "\\data\\"

LARGEST_LOGPROB = 1e-3
"""Rounded logarithms of certain words may be a little more than 0."""

LEAST_LOGPROB = -99.0
"""What ARPA files have for a probability of 0; smaller ones, and -inf, count as this."""

BEGINNING = 1000
"""Characters of a file in which the header is looked for."""

TEXT_ERRORS = (OSError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError)
"""What reading a file that `open_text` opened may raise."""


def open_text(path: Path, errors: str = "strict") -> IO[str]:
    """Open a text file in UTF-8, which may begin with a mark of this encoding; the suffixes .gz and
    .xz name compressed ones.

    Raises:
        OSError: it cannot be opened; reading it may raise any of `TEXT_ERRORS`.
    """
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors)
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig", errors=errors)
    return path.open(encoding="utf-8-sig", errors=errors)


def is_arpa(path: Path) -> bool:
    """Whether a file that can be read has the header of an ARPA file, behind remarks if any."""
    try:
        with open_text(path, errors="replace") as lines:
            beginning = lines.read(BEGINNING)
    except TEXT_ERRORS:
        return False
    return HEADER in map(str.strip, beginning.splitlines())


class _Reader:
    """The lines of an ARPA file, with their numbers for errors."""

    def __init__(self, path: Path, lines: IO[str]) -> None:
        self._path, self._lines = path, lines
        self.number = 0

    def line(self) -> str:
        """The next line that is not empty."""
        for line in self._lines:
            self.number += 1
            if stripped := line.strip():
                return stripped
        raise self.error("the file ends early")

    def error(self, fault: str) -> CheckpointError:
        return CheckpointError(
            "A file of n-grams has to be in the ARPA format, up to order 5",
            f"in line {self.number} of {str(self._path)!r} {fault}",
            "write it anew with KenLM or SRILM, or train a model with auris train lm",
        )

    def counts(self) -> list[int]:
        """Number of n-grams of each length, of the file's head; reads on to the first section."""
        while self.line() != HEADER:
            pass
        counts: list[int] = []
        while (line := self.line()).startswith("ngram "):
            length, _, count = line.removeprefix("ngram ").partition("=")
            if int(length) != len(counts) + 1:
                raise self.error(f"the length is {length}")
            counts.append(int(count))
        if counts[:1] == [0]:
            raise self.error("there are no words")
        if not 1 <= len(counts) <= MOST_ORDER or line != "\\1-grams:":
            raise self.error(f"there is {line[:40]!r}")
        return counts

    def section(self, order: int, count: int) -> Iterator[tuple[float, list[str], float]]:
        """Log-probability, words and log backoff weight of the n-grams of a length."""
        for _ in range(count):
            fields = self.line().split()
            if len(fields) not in (order + 1, order + 2):
                raise self.error(f"an n-gram of {order} words has {len(fields)} fields")
            logprob = float(fields[0])
            backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
            if not logprob <= LARGEST_LOGPROB:
                raise self.error(f"a logarithm of a probability is {fields[0]}")
            if not abs(backoff) <= -LEAST_LOGPROB:
                raise self.error(f"a backoff weight is {fields[order + 1]}")
            yield max(logprob, LEAST_LOGPROB) * LN10, fields[1 : order + 1], backoff * LN10


def read_arpa(path: Path) -> LanguageModel:
    """Read an ARPA file, which may be compressed (.gz, .xz).

    Words that it does not list get the probability of its `<unk>`, or where it has none, that of
    its rarest word.

    Raises:
        CheckpointError: the file cannot be read, or lists an n-gram without its first words.
    """
    try:
        with open_text(path) as lines:
            reader = _Reader(path, lines)
            try:
                return _read(reader)
            except (ValueError, KeyError) as error:
                raise reader.error(f"there is {error}") from None
    except TEXT_ERRORS as error:
        raise CheckpointError(
            f"The language model {str(path)!r} cannot be read ({error})", "", "check the path"
        ) from None


def _read(reader: _Reader) -> LanguageModel:
    counts = reader.counts()
    vocabulary, unigrams = _read_unigrams(reader, counts[0])
    ids = {word: number for number, word in enumerate(vocabulary)}
    ids |= dict.fromkeys(UNKNOWN_SPELLINGS, UNKNOWN)
    tables = [unigrams]
    for order, count in enumerate(counts[1:], 2):
        _expect(reader, f"\\{order}-grams:")
        tables.append(_read_ngrams(reader, order, count, ids))
    _expect(reader, "\\end\\")
    levels = _levels(reader, tables, len(vocabulary))
    spelling = learn_spelling(vocabulary[len(SPECIAL_WORDS) :])
    return LanguageModel(vocabulary, levels, spelling)


def _expect(reader: _Reader, heading: str) -> None:
    line = reader.line()
    if line != heading:
        raise reader.error(f"there is {line[:40]!r} where {heading} belongs")


_Table = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""Words [N, n], log-probabilities and log backoff weights of the n-grams of one length."""


def _read_unigrams(reader: _Reader, count: int) -> tuple[list[str], _Table]:
    rows = {words[0]: (logprob, backoff) for logprob, words, backoff in reader.section(1, count)}
    for spelling in UNKNOWN_SPELLINGS[1:]:
        if spelling in rows:
            rows[SPECIAL_WORDS[UNKNOWN]] = rows.pop(spelling)
    rarest = min((row[0] for word, row in rows.items() if word != "<s>"), default=IMPOSSIBLE)
    rows.setdefault(SPECIAL_WORDS[UNKNOWN], (rarest, 0.0))
    for word in SPECIAL_WORDS[:UNKNOWN]:
        rows.setdefault(word, (IMPOSSIBLE, 0.0))
    rows["<s>"] = (IMPOSSIBLE, rows["<s>"][1])
    vocabulary = [*SPECIAL_WORDS, *sorted(set(rows) - set(SPECIAL_WORDS))]
    values = np.array([rows[word] for word in vocabulary], np.float32)
    return vocabulary, (np.arange(len(vocabulary))[:, None], values[:, 0], values[:, 1])


def _read_ngrams(reader: _Reader, order: int, count: int, ids: dict[str, int]) -> _Table:
    words = np.empty((count, order), np.int64)
    values = np.empty((count, 2), np.float32)
    for row, (logprob, spelled, backoff) in enumerate(reader.section(order, count)):
        words[row] = [ids[word] for word in spelled]
        values[row] = logprob, backoff
    return words, values[:, 0], values[:, 1]


def _levels(reader: _Reader, tables: Sequence[_Table], size: int) -> list[Level]:
    """The n-grams in the order of a trie."""
    keys: list[NDArray[np.int64]] = [np.arange(size)]
    ordered, children = [tables[0]], []
    for words, logprobs, backoffs in tables[1:]:
        parents = words[:, 0]
        for column, listed in enumerate(keys[1:], 1):
            prefixes = parents * size + words[:, column]
            parents = np.minimum(listed.searchsorted(prefixes), len(listed) - 1)
            if len(listed) == 0 or (listed[parents] != prefixes).any():
                raise reader.error("there is an n-gram whose first words are not listed")
        own = parents * size + words[:, -1]
        order = own.argsort(kind="stable")
        keys.append(own[order])
        children.append(np.bincount(parents, minlength=len(ordered[-1][1])))
        ordered.append((words[order], logprobs[order], backoffs[order]))
    return [
        Level(
            words[:, -1].astype(np.uint32),
            logprobs,
            counts,
            None if counts is None else backoffs,
        )
        for (words, logprobs, backoffs), counts in zip(ordered, [*children, None], strict=True)
    ]


def write_arpa(model: LanguageModel) -> Iterator[str]:
    """The lines of an ARPA file with the n-grams of a model."""
    yield HEADER
    for order, level in enumerate(model.levels, 1):
        yield f"ngram {order}={len(level.words)}"
    spelled: list[str] = []
    for order, level in enumerate(model.levels, 1):
        yield f"\n\\{order}-grams:"
        before = model.levels[order - 2].children if order > 1 else None
        histories = [""] if before is None else np.repeat(np.array(spelled), before)
        spelled = [
            f"{history} {model.vocabulary[word]}".lstrip()
            for history, word in zip(
                histories if before is not None else histories * len(level.words),
                level.words.tolist(),
                strict=True,
            )
        ]
        logprobs = level.logprob(slice(None)) / LN10
        backoffs = None if level.children is None else level.backoff(slice(None)) / LN10
        for row, words in enumerate(spelled):
            end = "" if backoffs is None else f"\t{backoffs[row]:.7g}"
            yield f"{logprobs[row]:.7g}\t{words}{end}"
    yield "\n\\end\\"
