"""Text for the screen: its width, where it may be broken, and lines of a given width.

Width is counted in columns, as by a terminal: East Asian wide letters take two, combining marks
none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from auris.text.words import spaceless

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SENTENCE_MARKS = frozenset(".!?\u2026\u3002\uff01\uff1f\uff0e\uff61\u061f\u06d4\u0964")
CLAUSE_MARKS = frozenset(",;:\u3001\uff0c\uff1b\uff1a\uff64\u060c\u061b\u2014\u2013")
CLOSING = frozenset("\"')]}\u2019\u201d\u00bb\u203a\u300d\u300f\u3011\uff09\u300b\u3009")
"""Marks that may follow the mark that ends a sentence."""

OPENING = frozenset("([{\u2018\u201c\u00ab\u2039\u300c\u300e\u3010\uff08\u300a\u3008")
SMALL_KANA = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶー々ゝゞヽヾ")
NO_START = SENTENCE_MARKS | CLAUSE_MARKS | CLOSING | SMALL_KANA | frozenset("\u30fb\uff5e\u301c%")
"""Letters with which no line begins, in scripts without spaces."""

ABBREVIATIONS = frozenset(
    ["mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "e.g.", "i.e.", "jr.", "sr.", "bzw."]
)
"""Words whose full stop does not end a sentence."""


class Break(IntEnum):
    """How good a position for a break is: after a word, a clause or a sentence."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2


@dataclass(frozen=True)
class Unit:
    """A part of a text that is never broken: a word, or one letter of a script without spaces.

    Attributes:
        text: without spaces.
        start: offset of its first letter in the text.
        width: its columns.
        spaced: whether there is a space before it, unless it begins a line.
        after: what ends after it.
    """

    text: str
    start: int
    width: int
    spaced: bool
    after: Break

    @property
    def end(self) -> int:
        """Offset after its last letter."""
        return self.start + len(self.text)


def columns(text: str) -> int:
    """Width of a text in columns."""
    return sum(_letter_columns(letter) for letter in text)


@lru_cache(maxsize=4096)
def _letter_columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def one_line(text: str) -> str:
    """The text with single spaces in place of white space and control characters."""
    return " ".join(CONTROLS.sub(" ", text).split())


def units(text: str, width: int) -> list[Unit]:
    """Cut a text, see `one_line`, into units; a word wider than `width` is cut between letters."""
    result: list[Unit] = []
    for word in re.finditer(r"\S+", text):
        parts = [
            narrow
            for start, part in _letters_apart(word.group(), word.start())
            for narrow in _narrow(start, part, width)
        ]
        for index, (start, part) in enumerate(parts):
            spaced = index == 0 and word.start() > 0
            result.append(Unit(part, start, columns(part), spaced, _break_after(part)))
    return result


def _letters_apart(word: str, start: int) -> list[tuple[int, str]]:
    """The parts of a word between which a line may be broken: letters of spaceless scripts."""
    cuts = [0]
    for index in range(1, len(word)):
        before, letter = word[index - 1], word[index]
        free = spaceless(before) or spaceless(letter)
        if free and letter not in NO_START and before not in OPENING and not _clings(letter):
            cuts.append(index)
    ends = [*cuts[1:], len(word)]
    return [(start + a, word[a:b]) for a, b in zip(cuts, ends, strict=True)]


def _narrow(start: int, part: str, width: int) -> list[tuple[int, str]]:
    """Cut a part so that none is wider than `width`, never before a combining mark."""
    cuts, used = [0], 0
    for index, letter in enumerate(part):
        wide = _letter_columns(letter)
        if used + wide > width and used and not _clings(letter):
            cuts.append(index)
            used = 0
        used += wide
    ends = [*cuts[1:], len(part)]
    return [(start + a, part[a:b]) for a, b in zip(cuts, ends, strict=True)]


def _clings(letter: str) -> bool:
    return unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf")


def _break_after(part: str) -> Break:
    bare = part.rstrip("".join(CLOSING))
    if bare.endswith(tuple(SENTENCE_MARKS)):
        initial = len(bare) == 2 and bare[0].isupper() and bare[1] == "."
        return Break.WORD if initial or bare.lower() in ABBREVIATIONS else Break.SENTENCE
    return Break.CLAUSE if bare.endswith(tuple(CLAUSE_MARKS)) else Break.WORD


def rows(parts: Sequence[Unit], width: int) -> list[list[Unit]]:
    """Lines of units, each as full as the width allows; a wider unit has a line of its own."""
    lines: list[list[Unit]] = []
    used = 0
    for unit in parts:
        if lines and used + unit.spaced + unit.width <= width:
            lines[-1].append(unit)
            used += unit.spaced + unit.width
        else:
            lines.append([unit])
            used = unit.width
    return lines


def wrap(parts: Sequence[Unit], width: int) -> list[str]:
    """Lines of text: as few as the width allows, and then as even as possible."""
    fewest = len(rows(parts, width))
    low, high = 1, width
    while low < high:
        middle = (low + high) // 2
        if len(rows(parts, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return [_joined(line) for line in rows(parts, high)]


def _joined(line: Sequence[Unit]) -> str:
    return "".join(f" {u.text}" if u.spaced and i else u.text for i, u in enumerate(line))
