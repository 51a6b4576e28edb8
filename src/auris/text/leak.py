"""Whether a text repeats words of the context that nobody spoke.

A model may repeat its context where there is little speech. A run of words that the context has in
the same order is suspicious if it has at least `LEAK_WORDS` words and `LEAK_COLUMNS` columns, so
names and commands of a few words are not. A decoding without the context then shows whether the
words were spoken.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from auris.text.words import split_words
from auris.text.wrap import columns

LEAK_WORDS, LEAK_COLUMNS = 4, 12
"""Minimum number of words and minimum width of a suspicious run. An ideograph is a word, and two
columns wide."""

SPOKEN_SHARE = 0.5
"""A run was spoken if the text without the context has at least this share of it in one run."""


def _words(text: str) -> list[str]:
    # Only runs of words matter, so words are cut the same way in every language.
    return [span.text.casefold() for span in split_words(text)]


def _longest_run(left: list[str], right: list[str]) -> list[str]:
    match = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
    return left[match.a : match.a + match.size]


def common_run(text: str, context: str) -> list[str] | None:
    """The longest run of words that a text and the context share, if it is suspicious."""
    run = _longest_run(_words(text), _words(context))
    wide = sum(columns(word) for word in run)
    return run if len(run) >= LEAK_WORDS and wide >= LEAK_COLUMNS else None


def is_spoken(run: list[str], text: str) -> bool:
    """Whether a suspicious run was spoken, by a text that was decoded without the context."""
    return len(_longest_run(run, _words(text))) >= SPOKEN_SHARE * len(run)
