"""The phrases of a list of hotwords, and how a model that knows few letters writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from auris.text.normalize import APOSTROPHES, spoken

_SEPARATOR = re.compile(r",(?!\d)|(?<!\d),|[，、､،;；]")
"""What separates phrases; a comma inside a number, as in `1,000`, does not."""

_INVISIBLE = dict.fromkeys(
    (
        *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()),
        *(0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),
        *(*range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    )
)
"""Control characters, soft hyphens, spaces without width, byte order marks, and marks of the
direction of text, which no model writes. The joiners of Persian and Indic scripts are part of
words."""

_MARK_OF_LIST = re.compile(r"^[-–—*•·]\s+")

_QUOTES = ('""', "''", "“”", "‘’", "„“", "«»", "「」")


def hotword_phrases(given: Iterable[str]) -> tuple[str, ...]:
    """The distinct phrases of a list, in order, without blank ones.

    Commas and semicolons separate phrases inside an entry. Invisible characters, a mark of a list
    at the beginning and quotation marks around a phrase are left out. A phrase with typographic
    apostrophes is there with straight ones, too, since models write either.
    """
    phrases: dict[str, None] = {}
    for entry in given:
        for part in _SEPARATOR.split(entry):
            phrase = _without_marks(" ".join(part.translate(_INVISIBLE).split()))
            phrases |= dict.fromkeys(filter(None, (phrase, phrase.translate(APOSTROPHES))))
    return tuple(phrases)


def _without_marks(phrase: str) -> str:
    phrase = _MARK_OF_LIST.sub("", phrase)
    marks, inner = phrase[:1] + phrase[-1:], phrase[1:-1]
    quoted = len(phrase) > 1 and marks in _QUOTES and marks[1] not in inner
    return inner.strip() if quoted else phrase


def has_letters(phrase: str) -> bool:
    """Whether a phrase has a letter or a digit; marks and symbols alone are no hotword."""
    return any(map(str.isalnum, phrase))


def written_in_lower_case(phrases: Iterable[str], letters_of_english: bool) -> Iterator[str]:
    """The phrases as a model writes them that was trained on texts in lower case.

    Args:
        phrases: as they were given.
        letters_of_english: whether the model knows English only. It then writes the letters a to z
            and apostrophes: accents and punctuation are left out, and phrases whose spoken form is
            not known, with digits, symbols or other alphabets, too.
    """
    for phrase in phrases:
        written = spoken(phrase) if letters_of_english else phrase.lower()
        if written:
            yield written
