"""Lists of hotwords as they are given with calls.

A program or the settings of a server give the same list of thousands at every call, so the results
for the last lists are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from auris.errors import UsageError
from auris.text.tokenizer import check_unicode

MOST_HOTWORDS = 20_000

MOST_HOTWORD_LETTERS = 200

MOST_LISTS = 8
"""Lists that stay in memory, those that were used last."""


def checked_hotwords(given: Sequence[str]) -> tuple[str, ...]:
    """Distinct phrases without empty ones, in order.

    Raises:
        UsageError: it is no list of strings, has too many of them or one that is too long, or one
            is not valid Unicode.
    """
    if isinstance(given, str) or not all(isinstance(phrase, str) for phrase in given):
        raise UsageError(
            "hotwords have to be a list of strings",
            f"they are {given!r}",
            "pass a list, such as ['Auris', 'Zoë']",
        )
    return _distinct_hotwords(tuple(given))


@lru_cache(maxsize=MOST_LISTS)
def _distinct_hotwords(given: tuple[str, ...]) -> tuple[str, ...]:
    phrases = tuple(dict.fromkeys(filter(None, (" ".join(phrase.split()) for phrase in given))))
    longest = max(map(len, phrases), default=0)
    if len(phrases) > MOST_HOTWORDS or longest > MOST_HOTWORD_LETTERS:
        raise UsageError(
            f"There may be {MOST_HOTWORDS} hotwords of {MOST_HOTWORD_LETTERS} letters",
            f"there are {len(phrases)}, and the longest has {longest} letters",
            "leave out those that are rarely said",
        )
    for phrase in phrases:
        check_unicode(phrase, "Each of --hotwords")
    return phrases


@lru_cache(maxsize=MOST_LISTS)
def in_lower_case(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Distinct phrases in lower case, in order."""
    return tuple(dict.fromkeys(phrase.lower() for phrase in phrases))
