"""Guesses at what a text will be, which never change it.

A row whose next ids are guessed has its last token and the guesses scored in one pass; they are
accepted up to the first that is not the best, so the text is what one token a pass gives. A guess
that is a little wrong is taken up again behind the difference: the token that was chosen instead
is looked for in what is left of the guess, as in prompt lookup decoding (Saxena, 2023).

Source: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding"
(2023), for the verification in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AHEAD", "REACH", "Draft"]

AHEAD = 8
"""Most ids guessed at once."""

REACH = 4
"""How many ids of a draft may be passed over where text and draft part."""


class Draft:
    """A guess at a whole text, followed along.

    Args:
        ids: the guess; none guesses nothing.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = tuple(ids)
        self._next = 0
        self._together = bool(self._ids)

    def ahead(self) -> tuple[int, ...]:
        """Ids that may follow what was taken; none where text and draft have parted."""
        return self._ids[self._next : self._next + AHEAD] if self._together else ()

    def take(self, token: int) -> None:
        """The text goes on with a token."""
        window = self._ids[self._next : self._next + REACH]
        self._together = token in window
        if self._together:
            self._next += window.index(token) + 1
