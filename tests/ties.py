"""Counts the ties that explain differences of tokens, by the tie rule of the package."""

from __future__ import annotations

from collections.abc import Sequence

from auris.diagnostics.parity import LOGIT_LIMIT, TIE_MARGIN, first_difference

LOGITS = LOGIT_LIMIT
"""How far logits may differ in float32, whatever the batch, kernel or chunking."""


class Ties:
    """Compares token sequences, and counts and prints the ties that explain a difference."""

    def __init__(self) -> None:
        self.count = 0

    def same(
        self, ours: Sequence[int], theirs: Sequence[int], margins: Sequence[float], what: str
    ) -> None:
        """Fail unless the sequences agree up to their first tie.

        Args:
            margins: of the first sequence's choices; one more for what ended it.
        """
        place = first_difference(ours, theirs)
        if place is None:
            return
        margin = margins[place]
        here = slice(place, place + 1)
        parting = f"token {place} is {ours[here]} and {theirs[here]} with a margin of {margin:.2g}"
        assert margin < TIE_MARGIN, f"{what}: {parting}"
        self.count += 1
        print(f"tie in {what}: {parting}")
