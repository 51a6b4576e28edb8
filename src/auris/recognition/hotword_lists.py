"""Lists of hotwords as they are given with calls.

A program or the settings of a server give the same list of thousands at every call, so the results
for the last lists are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from auris.errors import UsageError
from auris.text.hotword_phrases import has_letters, hotword_phrases, written_in_lower_case
from auris.text.normalize import APOSTROPHES
from auris.text.tokenizer import check_unicode

MOST_HOTWORDS = 20_000

MOST_HOTWORD_LETTERS = 200

MOST_LISTS = 8
"""Lists that stay in memory, those that were used last."""


def checked_hotwords(given: Iterable[str] | None) -> tuple[str, ...]:
    """Distinct phrases without empty ones, in order.

    Raises:
        UsageError: it is no list of strings, has too many of them or one that is too long, or one
            is not valid Unicode.
    """
    if given is None:
        return ()
    strings = isinstance(given, Iterable) and not isinstance(given, str)
    listed = tuple(given) if strings else ()
    if not strings or not all(isinstance(phrase, str) for phrase in listed):
        raise UsageError(
            "hotwords have to be a list of strings",
            f"they are {given!r:.200}",
            "pass a list, such as ['Auris', 'Zoë']",
        )
    return _distinct_hotwords(listed)


@lru_cache(maxsize=MOST_LISTS)
def _distinct_hotwords(given: tuple[str, ...]) -> tuple[str, ...]:
    for phrase in given:
        check_unicode(phrase, "Each of --hotwords")
    phrases = hotword_phrases(given)
    longest = max(map(len, phrases), default=0)
    count = len({phrase.translate(APOSTROPHES) for phrase in phrases})
    if count > MOST_HOTWORDS or longest > MOST_HOTWORD_LETTERS:
        raise UsageError(
            f"There may be {MOST_HOTWORDS} hotwords of {MOST_HOTWORD_LETTERS} characters",
            f"there are {count}, and the longest has {longest} characters",
            "leave out those that are rarely said, and separate phrases by commas or lines",
        )
    return phrases


@lru_cache(maxsize=MOST_LISTS)
def with_letters(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Those that have a letter or a digit."""
    return tuple(filter(has_letters, phrases))


@lru_cache(maxsize=MOST_LISTS)
def in_lower_case(phrases: tuple[str, ...], letters_of_english: bool) -> tuple[str, ...]:
    """Phrases as `auris.text.hotword_phrases.written_in_lower_case` writes them."""
    return tuple(written_in_lower_case(phrases, letters_of_english))
