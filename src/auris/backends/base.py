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

from auris.types import FinishReason

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


@dataclass(frozen=True)
class TextRules:
    """When texts end.

    Attributes:
        stops: ids that end a text.
        loops: for every period from 1, how many ids in a row equal the id one period before them
            in a text that loops.
    """

    stops: tuple[int, ...]
    loops: tuple[int, ...]


@dataclass(frozen=True)
class TextStart:
    """A text that a static step continues.

    Attributes:
        ids: its tokens so far, at least one; the cache has all but the last.
        budget: most tokens of the whole text.
        probe: ids whose probability is computed with every token, `MOST_PROBED` at most.
    """

    ids: tuple[int, ...]
    budget: int
    probe: tuple[int, ...] = ()


MOST_PROBED = 8
"""Most ids of a probe of a static step."""


@dataclass(frozen=True)
class StaticResult:
    """What one pass of a static step gave for one text.

    Attributes:
        choice: the best token.
        finish: why the text is over, or None while it goes on. The choice is no part of a text that
            is over, unless it loops.
        probe_logprob: the natural-log probability that the token is one of the probed ids.
    """

    choice: Choice
    finish: FinishReason | None
    probe_logprob: float


class StaticText(Protocol):
    """Names a text of a static step."""


class StaticPass(Protocol):
    """A pass of a static step, which the device may still be working on."""

    def results(self) -> dict[StaticText, StaticResult]:
        """Wait for the pass; the results of its texts, without those that were over before it."""


class StaticStep(Protocol):
    """Passes with fixed shapes over texts that take the best token: the device chooses tokens,
    continues with them and finds the ends of texts by itself."""

    @property
    def cache(self) -> Cache:
        """The memory of all rows, also of those that the backend extends by other passes."""

    def begin(self, texts: Sequence[tuple[int, TextStart]]) -> list[StaticText]:
        """Continue texts, each in its row of the cache, from the next pass on."""

    def end(self, text: StaticText) -> None:
        """Leave a text, which may be over or not; its row has all its tokens but the last."""

    def launch(self) -> StaticPass | None:
        """Start a pass over all texts; None if all of them are over after the passes before."""

    def release(self) -> None:
        """Give the step back to its backend: it is not used any more."""


class Cache(Protocol):
    """Opaque memory of a batch of rows."""

    @property
    def lengths(self) -> Sequence[int]:
        """Positions filled in every row in use."""


class Backend(Protocol):
    """Runs a model on some device in some dtype."""

    @property
    def device(self) -> torch.device:
        """Where it runs; inputs on it are not moved."""

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

    def static_step(
        self, texts: int, rows: int, capacity: int, rules: TextRules
    ) -> StaticStep | None:
        """A static step with a cache of its own; None if the backend has none.

        Args:
            texts: texts at a time.
            rows: most rows of the cache, also for other passes.
            capacity: positions a row has room for at first.
            rules: of all its texts.
        """


class MarkBackend(Protocol):
    """Runs a forced aligner on some device in some dtype."""

    @property
    def device(self) -> torch.device:
        """As of `Backend`."""

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """As of `Backend`."""

    def mark_logits(self, ids: Sequence[int], states: Tensor) -> Tensor:
        """Float32 scores [marks, classes] of every time at the marks of a prompt.

        Args:
            ids: token ids, with as many audio slots as there are states.
            states: encoder states [N, d_model].
        """
