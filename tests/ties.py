"""The one tie rule: tokens are identical unless the two best logits were nearly equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

TIE = 2e-4
"""Gap of the two best logits below which a difference in float32 is a tie."""

LOGITS = 1e-4
"""How far logits may differ in float32, whatever the batch, kernel or chunking."""


class Ties:
    """Compares token sequences, and counts and prints the ties that excuse a difference."""

    def __init__(self) -> None:
        self.count = 0

    def same(
        self, ours: Sequence[int], theirs: Sequence[int], gaps: Sequence[float], what: str
    ) -> None:
        """Fail unless the sequences agree up to their first tie.

        Args:
            gaps: of the first sequence's choices; one more for what ended it.
        """
        for place, (one, other) in enumerate(zip_longest(ours, theirs)):
            if one == other:
                continue
            gap = gaps[place]
            assert gap < TIE, f"{what}: token {place} is {one} and {other} with a gap of {gap:.2g}"
            self.count += 1
            print(f"tie in {what}: token {place}, gap {gap:.2g}")
            return
