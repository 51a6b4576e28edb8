"""Loops: a text that says the same again and again, seen in its token ids alone.

A text loops when it ends in one unit of `period` tokens that stands `repeats_needed(period)` times
in a row. The thresholds follow from how fast people speak: fluent speech needs about five tokens a
second, so the `LOOP_TOKENS` of a loop are twelve seconds of one word or phrase without any other.
Strings of digits, laughter and "no no no no" stay far below. What does reach it, such as a
refrain, is not lost: a piece that loops is decoded again in smaller ones, in which so many repeats
would need speech that is faster than any.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LONGEST_PERIOD", "LOOP_TOKENS", "Repetition", "cut_loop", "repeats_needed"]

LOOP_TOKENS = 64
"""A loop is at least so many tokens long ..."""

LEAST_REPEATS = 4
"""... and its unit stands at least so many times in a row."""

LONGEST_PERIOD = 64
"""Longest unit in tokens; four of them are half of the budget of a piece of 30 s."""


def repeats_needed(period: int) -> int:
    """How often a unit of `period` tokens stands in a row where it is a loop."""
    return max(LEAST_REPEATS, -(-LOOP_TOKENS // period))


class Repetition:
    """Watches one text as it grows. Every token costs `LONGEST_PERIOD` comparisons."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        # How many of the last ids each equal the one that stands `period` places before.
        self._same = [0] * (LONGEST_PERIOD + 1)

    def take(self, token: int) -> int | None:
        """One more token.

        Returns:
            the period of the loop that the text now ends in, the shortest one, or None.
        """
        self._ids.append(token)
        found = None
        for period in range(min(LONGEST_PERIOD, len(self._ids) - 1), 0, -1):
            if self._ids[-1 - period] != token:
                self._same[period] = 0
                continue
            self._same[period] += 1
            if self._same[period] >= period * (repeats_needed(period) - 1):
                found = period
        return found


def cut_loop(ids: Sequence[int]) -> tuple[int, int, int] | None:
    """The first loop of a text, as the decode loop would have stopped it.

    Returns:
        where its first unit begins, where that unit ends, and how many tokens there were when
        it was seen; None where there is no loop.
    """
    watch = Repetition()
    for place, token in enumerate(ids):
        period = watch.take(token)
        if period is not None:
            seen = place + 1
            first = seen - period * repeats_needed(period)
            while first > 0 and ids[first - 1] == ids[first - 1 + period]:
                first -= 1
            return first, first + period, seen
    return None
