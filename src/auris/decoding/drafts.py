"""Drafts: guessed tokens that save passes of the decoder and never change the text.

The last token of a row and its guessed next tokens are scored in one pass. Guesses are accepted up
to the first one that is not the chosen token, so the text is the same as with one token a pass.
After a wrong guess, the chosen token is searched in the rest of the draft, which goes on behind it,
as in prompt lookup decoding (Saxena, 2023), with one guess at first and more as they prove right.

Source: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding"
(2023), for the verification in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_DRAFT_TOKENS = 8
"""Maximum number of ids of a draft that are verified in one pass."""

MAX_SKIPPED_TOKENS = 4
"""How many ids of a draft are searched for a token that was not guessed."""


class Draft:
    """A guessed text and the position that the real text has reached in it."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = tuple(ids)
        self._next = 0
        self._most = MAX_DRAFT_TOKENS
        self._in_step = bool(self._ids)

    def ahead(self) -> tuple[int, ...]:
        """The guessed next ids; none while text and draft differ."""
        return self._ids[self._next : self._next + self._most] if self._in_step else ()

    def take(self, token: int) -> None:
        """Follow the next token of the text."""
        window = self._ids[self._next : self._next + MAX_SKIPPED_TOKENS]
        guessed = self._in_step and window[:1] == (token,)
        # One guess more costs little, eight cost as much as a pass. So those behind a difference
        # have to prove right first.
        self._most = min(2 * self._most, MAX_DRAFT_TOKENS) if guessed else 1
        self._in_step = token in window
        if self._in_step:
            self._next += window.index(token) + 1
