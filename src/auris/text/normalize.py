"""Text as it is spoken: the form of training texts and of references."""

from __future__ import annotations

import re
import unicodedata

APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\u0060\u00b4", "'"))

LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"}
)
"""Latin letters that have no decomposition into a base letter and an accent."""

SILENT_MARKS = frozenset(".,;:!?\"()[]{}<>-_/\\*~|'\u2026\u00ab\u00bb")
"""Marks that are not read aloud. The spoken form of other symbols is not known here."""

SILENT_CATEGORIES = ("Pd", "Pi", "Pf", "Ps", "Pe", "Zs")


def _is_silent(char: str) -> bool:
    return char in SILENT_MARKS or unicodedata.category(char) in SILENT_CATEGORIES


def spoken(text: str) -> str | None:
    """Lower-case words of a-z and apostrophes, separated by single spaces.

    Accents are folded, typographic apostrophes unified, hyphens and dashes become spaces, and
    apostrophes that only quote a word are dropped.

    Returns:
        The words ("" when there are none), or None where the text does not say how it is
        spoken: digits, symbols such as "%" or "&", and letters outside the Latin alphabet.
    """
    folded = unicodedata.normalize("NFKD", text.translate(APOSTROPHES).casefold())
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    plain = plain.translate(APOSTROPHES).translate(LETTERS)
    if not all("a" <= char <= "z" or char.isspace() or _is_silent(char) for char in plain):
        return None
    words = re.sub(r"[^a-z']+", " ", plain).split()
    stripped = (word.strip("'") for word in words)
    return " ".join(word for word in stripped if word)
