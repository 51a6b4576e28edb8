"""How texts of neighbouring pieces are joined."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["join_texts", "spaceless"]


def spaceless(letter: str) -> bool:
    """Whether a letter belongs to a script that writes no spaces between words."""
    if unicodedata.east_asian_width(letter) not in "WF":
        return False
    return not unicodedata.name(letter, "").startswith("HANGUL")


def join_texts(texts: Iterable[str]) -> str:
    """Join texts with a space, except between letters of Chinese and Japanese."""
    joined = ""
    for text in (text.strip() for text in texts):
        if joined and text and not (spaceless(joined[-1]) and spaceless(text[0])):
            joined += " "
        joined += text
    return joined
