"""Loops: texts that repeat themselves without end, detected in their token ids.

A text loops when it ends in one unit of `period` tokens that occurs `repeats_needed(period)` times
in a row. The thresholds follow from how fast people speak: fluent speech needs about five tokens a
second, so the `LOOP_TOKENS` of a loop are twelve seconds of one word or phrase without any other.
Strings of digits, laughter and "no no no no" stay far below. A refrain may reach it and is not
lost: a chunk that loops is decoded again in parts, which are too short for so many repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

LOOP_TOKENS = 64
"""Smallest number of tokens of a loop."""

LEAST_REPEATS = 4
"""Smallest number of repeats in a loop."""

LONGEST_PERIOD = 64
"""Longest unit in tokens; four of them are half of the token budget of a chunk of 30 s."""


def repeats_needed(period: int) -> int:
    """How often a unit of `period` tokens occurs in a row in a loop."""
    return max(LEAST_REPEATS, -(-LOOP_TOKENS // period))


class Repetition:
    """Detects loops in a growing text.

    Attributes:
        ids: the text.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        # For each period, how many of the last ids equal the id `period` positions before; without
        # periods of which none does.
        self._same: dict[int, int] = {}

    def copy(self) -> Repetition:
        """The same text, which can go on in another way."""
        other = Repetition()
        other.ids, other._same = self.ids.copy(), self._same
        return other

    def add(self, token: int) -> int | None:
        """Add a token; returns the shortest period of the loop that the text ends in, or None."""
        recent = self.ids[-LONGEST_PERIOD:]
        self.ids.append(token)
        before, self._same = self._same, {}
        if token not in recent:
            return None
        looping = None
        for period, other in enumerate(reversed(recent), 1):
            if other != token:
                continue
            same = self._same[period] = before.get(period, 0) + 1
            if looping is None and same >= period * (repeats_needed(period) - 1):
                looping = period
        return looping


def cut_loop(ids: Sequence[int]) -> tuple[int, int, int] | None:
    """The first loop of a text, cut where the decode loop stops: begin and end of its first unit,
    and the number of tokens when it was detected; None if there is no loop."""
    repetition = Repetition()
    for index, token in enumerate(ids):
        period = repetition.add(token)
        if period is not None:
            seen = index + 1
            first = seen - period * repeats_needed(period)
            while first > 0 and ids[first - 1] == ids[first - 1 + period]:
                first -= 1
            return first, first + period, seen
    return None
