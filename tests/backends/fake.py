"""A backend with scripted scores, so that decoding can be tested without a model.

What a row will say is a list of ids in its prompt: after the prompt the row scores these ids one
after the other, whatever its neighbours do, and the stop id when they are used up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from auris.backends.base import Cache, Choice, Positions, TextRules, best_of

__all__ = ["FakeBackend", "FakeCache", "RandomBackend"]


class FakeCache:
    """The ids of every row."""

    def __init__(self, rows: int) -> None:
        self.limit = rows
        self.rows: list[list[int]] = []

    @property
    def lengths(self) -> list[int]:
        """Number of positions of every active row."""
        return [len(row) for row in self.rows]


class FakeBackend:
    """Scores ids from a script.

    Args:
        scripts: what follows a prompt, by the prompt's first id. A prompt is one id long.
        vocab: width of the scores.
        stop: the id that ends a text.
    """

    device = torch.device("cpu")

    def __init__(self, scripts: dict[int, Sequence[int]], vocab: int, stop: int) -> None:
        self.scripts = scripts
        self.vocab = vocab
        self.stop = stop
        self.passes: list[list[int]] = []

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """One state per mel frame."""
        return [mel.T for mel in mels]

    def encode_stem(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """One token per mel frame."""
        return [mel.T for mel in mels]

    def encode_layers(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """The tokens themselves."""
        return list(tokens)

    def ctc_logits(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The states themselves."""
        return list(states)

    def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
        """The ids as a column."""
        return torch.tensor(ids, dtype=torch.float32)[:, None]

    def new_cache(self, rows: int, capacity: int) -> FakeCache:
        """See `Backend.new_cache`."""
        return FakeCache(rows)

    def admit(self, cache: Cache, count: int = 1) -> range:
        """See `Backend.admit`."""
        rows, limit = cast(FakeCache, cache).rows, cast(FakeCache, cache).limit
        first = len(rows)
        if first + count > limit:
            raise ValueError(f"the cache has room for {limit - first} more rows, not {count}")
        rows.extend([] for _ in range(count))
        return range(first, first + count)

    def drop(self, cache: Cache, row: int) -> None:
        """See `Backend.drop`."""
        rows = cast(FakeCache, cache).rows
        last = rows.pop()
        if row < len(rows):
            rows[row] = last

    def truncate(self, cache: Cache, row: int, length: int) -> None:
        """See `Backend.truncate`."""
        del cast(FakeCache, cache).rows[row][length:]

    def copy_tail(self, cache: Cache, source: int, row: int, start: int) -> None:
        """See `Backend.copy_tail`."""
        rows = cast(FakeCache, cache).rows
        rows[row][start:] = rows[source][start:]

    def copy_row(self, source: Cache, source_row: int, cache: Cache, row: int, length: int) -> None:
        """See `Backend.copy_row`."""
        first = cast(FakeCache, source).rows[source_row][:length]
        cast(FakeCache, cache).rows[row].extend(first)

    def extend(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
        positions: Positions = "last",
    ) -> Tensor:
        """See `Backend.extend`; the wanted id scores 1, all others 0."""
        held = cast(FakeCache, cache).rows
        rows = range(len(held)) if rows is None else rows
        self.passes.append([len(item) for item in inputs])
        tail = 1 if positions == "last" else positions
        width = max(len(item) for item in inputs) if tail == "all" else tail
        logits = torch.zeros(len(inputs), width, self.vocab)
        for i, (row, item) in enumerate(zip(rows, inputs, strict=True)):
            ids = item.flatten().long().tolist() if isinstance(item, Tensor) else list(item)
            for place, token in enumerate(ids):
                held[row].append(token)
                column = place if tail == "all" else width - len(ids) + place
                if column >= 0:
                    logits[i, column] = self.scores(held[row])
        return logits

    def best(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
    ) -> list[Choice]:
        """See `Backend.best`."""
        return best_of(self.extend(cache, inputs, rows)[:, -1])

    def static_step(self, texts: int, rows: int, capacity: int, rules: TextRules) -> None:
        """There is none."""

    def scores(self, row: list[int]) -> Tensor:
        """Float32 scores [vocab] of what follows in a row."""
        script = self.scripts[row[0]]
        said = len(row) - 1
        scores = torch.zeros(self.vocab)
        scores[script[said] if said < len(script) else self.stop] = 1.0
        return scores


class RandomBackend(FakeBackend):
    """Scores that are random, and depend on the ids of the row alone."""

    def __init__(self, vocab: int, seed: int = 0, spread: float = 2.0) -> None:
        super().__init__({}, vocab, 0)
        self.seed = seed
        self.spread = spread

    def scores(self, row: list[int]) -> Tensor:
        """Float32 scores [vocab] of what follows in a row."""
        generator = torch.Generator().manual_seed(hash((self.seed, *row)) % (1 << 62))
        return self.spread * torch.randn(self.vocab, generator=generator)
