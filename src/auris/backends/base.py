"""The interface of what runs a model.

Token ids, embeddings and logits are all that passes: no text, no samples. Rows of a cache are
requests at different positions; each keeps its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Positions = Literal["last", "all"] | int
"""Which new positions are scored: the last of every row, all of them, or the last so many."""


@dataclass(frozen=True)
class Choice:
    """A chosen token.

    Attributes:
        token: its id.
        logprob: its natural-log probability at temperature 1.
        margin: by how much the best score exceeds the second best; small margins are ties.
    """

    token: int
    logprob: float
    margin: float


def best_of(logits: Tensor) -> list[Choice]:
    """The best token of every row of float32 logits [B, vocab]."""
    best, tokens = logits.topk(2, dim=-1)
    logprobs = best[:, 0] - torch.logsumexp(logits, dim=-1)
    columns = (tokens[:, 0], logprobs, best[:, 0] - best[:, 1])
    return [Choice(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]


class Cache(Protocol):
    """Opaque memory of a batch of rows."""

    @property
    def lengths(self) -> Sequence[int]:
        """Positions filled in every row in use."""


class Backend(Protocol):
    """Runs a model on some device in some dtype."""

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """Encoder states [N_i, d_model] of log-mels [bins, T_i]."""

    def encode_stem(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """Tokens [N_i, d_model] of log-mels, before the encoder's layers; those of a whole second
        do not depend on what follows it."""

    def encode_layers(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Encoder states [N_i, d_model] of tokens; those of a whole attention window do not depend
        on what follows it. `encode` is `encode_stem` and `encode_layers`."""

    def ctc_logits(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Unit scores [N_i, units + 1] of encoder states, blank last."""

    def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
        """Prompt embeddings [L, hidden], audio slots filled with projected states."""

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Memory for up to `rows` rows of `capacity` positions, none in use yet."""

    def admit(self, cache: Cache, count: int = 1) -> range:
        """Begin empty rows at the end; returns their indices."""

    def drop(self, cache: Cache, row: int) -> None:
        """End a row; the last row takes its index."""

    def truncate(self, cache: Cache, row: int, length: int) -> None:
        """Roll a row back to its first `length` positions."""

    def copy_tail(self, cache: Cache, source: int, row: int, start: int) -> None:
        """Make a row equal to another one; positions before `start` are equal already."""

    def copy_row(self, source: Cache, source_row: int, cache: Cache, row: int, length: int) -> None:
        """Fill an empty row with the first `length` positions of a row, maybe of another cache."""

    def extend(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
        positions: Positions = "last",
    ) -> Tensor:
        """Append to rows and score what could follow.

        Args:
            cache: grows by the inputs' lengths.
            inputs: per row its token ids, or embeddings [T_i, hidden]; at least one each.
            rows: distinct rows that the inputs belong to; all rows in use by default.
            positions: score after the last new position only, after every one, or after the last
                n of every row.

        Returns:
            float32 logits [rows, 1 or n, vocab], those of a row's last position at the end; or
            [rows, max T_i, vocab], those of its first at the beginning. A row with fewer inputs
            than there are places holds nothing of meaning in the others.
        """

    def best(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
    ) -> list[Choice]:
        """Append to rows and choose the token that scores best after the last new position of each,
        which may take less than scoring all of them.

        Args:
            cache, inputs, rows: as of `extend`.

        Returns:
            choices of the rows, their tokens independent of the others. Of a row alone the
            log-probability may be off by 0.02, and a margin of 8 or more be larger, unless the
            backend computes exact ones.
        """


class MarkBackend(Protocol):
    """Runs a forced aligner on some device in some dtype."""

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """As of `Backend`."""

    def mark_logits(self, ids: Sequence[int], states: Tensor) -> Tensor:
        """Float32 scores [marks, classes] of every time at the marks of a prompt.

        Args:
            ids: token ids, with as many audio slots as there are states.
            states: encoder states [N, d_model].
        """
