"""Words and names of a context, for models that read none."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(
    r"[,;:!?\n\r\t|/…、，；：。！？()\[\]{}<>\"“”„«»「」]+|\.(?=\s|$)|(?<!\S)[-–—*•·=](?!\S)"
)
"""What ends a phrase or a sentence, and marks of lists; a point inside a word, as in `3.5`, does
not."""

_MARKS = "-–—*•·@#~_'‘’"
"""What is no part of a word at its beginning; at its end `#` is, as in `C#`."""

_MOST_WORDS = 3
"""Words of a part of a list; a part of more words is running text."""

_LEAST_LETTERS = 4
"""Letters of a word of running text, unless it has a capital or a digit, as `MIT` and `4K` have."""


def phrases_of_context(context: str) -> tuple[str, ...]:
    """The distinct words and names to expect by a context, in order.

    The context is divided at punctuation and line breaks. A part of up to 3 words is a phrase, as
    in a list of names. Of a longer part, which is running text, every word of at least 4 letters
    is one, and every shorter word that has a capital letter or a digit, unless it is the first one
    with a capital at its beginning only. In scripts without capitals words of 2 letters are enough.
    Single letters and digits are no phrases, except ideographs.
    """
    phrases: list[str] = []
    for part in _SEPARATORS.split(context):
        words = list(filter(None, map(_without_marks, part.split())))
        if len(words) <= _MOST_WORDS:
            phrases.append(" ".join(words))
        else:
            phrases += [word for first, word in _numbered(words) if _is_long_or_name(word, first)]
    return tuple(dict.fromkeys(phrase for phrase in phrases if _has_letters(phrase)))


def _without_marks(word: str) -> str:
    return word.lstrip(_MARKS).rstrip(_MARKS.replace("#", ""))


def _numbered(words: list[str]) -> list[tuple[bool, str]]:
    """Words, each with whether it is the first one."""
    return [(number == 0, word) for number, word in enumerate(words)]


def _is_long_or_name(word: str, first: bool) -> bool:
    """Whether a word of running text is worth a hotword."""
    if word.lower() == word.upper():
        return len(word) > 1
    named = word[1:] if first else word
    has_capital = named != named.lower() or any(map(str.isdigit, word))
    return len(word) >= _LEAST_LETTERS or has_capital


def _has_letters(phrase: str) -> bool:
    """Whether a phrase is more than a letter, a digit or marks."""
    letters = [letter for letter in phrase if letter.isalnum()]
    return len(letters) > 1 or any(ord(letter) >= 0x2E80 for letter in letters)
