"""Context in the reply: whether a text repeats words that nobody spoke.

A model may repeat its context where there is little speech. A run of words that stand in the
context in the same order is suspicious from `LEAK_WORDS` words and `LEAK_COLUMNS` columns on, so
that names and commands of a few words never are. A decoding without the context then shows
whether they were spoken.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from auris.text.words import split_words
from auris.text.wrap import columns

LEAK_WORDS = 4
"""Minimum number of words of a suspicious run ..."""

LEAK_COLUMNS = 12
"""... and its minimum width without spaces; an ideograph is a word, and two columns wide."""

SPOKEN_SHARE = 0.5
"""A run was spoken when the text without the context has at least this share of it in one run."""


def _words(text: str) -> list[str]:
    # Only runs of words matter, so spaces and ideographs may part them in every language.
    return [span.text.casefold() for span in split_words(text)]


def _longest_run(left: list[str], right: list[str]) -> list[str]:
    match = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
    return left[match.a : match.a + match.size]


def common_run(text: str, context: str) -> list[str] | None:
    """The longest run of words that a text and the context share, where it is suspicious."""
    if not context:
        return None
    run = _longest_run(_words(text), _words(context))
    wide = sum(columns(word) for word in run)
    return run if len(run) >= LEAK_WORDS and wide >= LEAK_COLUMNS else None


def is_spoken(run: list[str], text: str) -> bool:
    """Whether a suspicious run was spoken, by a text that was decoded without the context."""
    return len(_longest_run(run, _words(text))) >= SPOKEN_SHARE * len(run)
