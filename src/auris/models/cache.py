"""Keys and values of a batch whose rows have different lengths.

Storage is laid out for a number of positions, and for rows as they come: a row is large, and a
batch seldom has as many as it may. Rows 0..count-1 are in use; a row is admitted at the end and
dropped by moving the last row into its place, so that the rows in use always form one dense batch.
Rolling back is forgetting: positions past a row's length are never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auris.config import DecoderConfig


class KVCache:
    """Preallocated keys and values, and the length of every row: the cache owns position.

    Args:
        config: the decoder's shapes.
        rows: how many rows may be in use at once; none is at first.
        capacity: positions a row has room for; `reserve` makes more.
        dtype, device: of keys and values.
    """

    def __init__(
        self,
        config: DecoderConfig,
        rows: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._most = rows
        shape = (config.layers, min(rows, 1), config.kv_heads, capacity, config.head_dim)
        # Zeros, not empty: a masked position is multiplied by zero, and 0 * NaN is NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths: list[int] = []

    @property
    def capacity(self) -> int:
        """Positions a row has room for."""
        return self.keys.shape[3]

    @property
    def room(self) -> int:
        """Rows that can still be admitted."""
        return self._most - len(self.lengths)

    def reserve(self, capacity: int) -> None:
        """Make room for at least `capacity` positions a row, keeping what is there."""
        if capacity > self.capacity:
            self._move(self.keys.shape[1], capacity)

    def _move(self, rows: int, capacity: int) -> None:
        """To larger storage; of the old one only what is filled."""
        used, filled = len(self.lengths), max(self.lengths, default=0)
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            layers, _, heads, _, width = old.shape
            wider = old.new_zeros(layers, rows, heads, capacity, width)
            wider[:, :used, :, :filled] = old[:, :used, :, :filled]
            setattr(self, name, wider)

    def admit(self, count: int = 1) -> range:
        """Begin `count` empty rows and return their indices.

        Raises:
            ValueError: there is no room.
        """
        if count > self.room:
            raise ValueError(f"there is room for {self.room} more rows, not for {count}")
        first = len(self.lengths)
        if first + count > self.keys.shape[1]:
            self._move(min(self._most, max(first + count, 2 * self.keys.shape[1])), self.capacity)
        self.lengths.extend([0] * count)
        return range(first, first + count)

    def drop(self, row: int) -> None:
        """End `row`; the last row takes its index.

        Raises:
            ValueError: no such row is in use.
        """
        last = len(self.lengths) - 1
        if not 0 <= row <= last:
            raise ValueError(f"row {row} is not among the {last + 1} in use")
        if row != last:
            filled = self.lengths[last]
            self.keys[:, row, :, :filled] = self.keys[:, last, :, :filled]
            self.values[:, row, :, :filled] = self.values[:, last, :, :filled]
            self.lengths[row] = filled
        self.lengths.pop()

    def truncate(self, row: int, length: int) -> None:
        """Forget what `row` holds from position `length` on.

        Raises:
            ValueError: the row is shorter than that.
        """
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} holds {self.lengths[row]} positions, not {length}")
        self.lengths[row] = length

    def copy_tail(self, source: int, row: int, start: int) -> None:
        """Make `row` equal to the row `source`; positions before `start` are equal already."""
        length = self.lengths[source]
        self.keys[:, row, :, start:length] = self.keys[:, source, :, start:length]
        self.values[:, row, :, start:length] = self.values[:, source, :, start:length]
        self.lengths[row] = length

    def make_room(self, rows: Sequence[int], counts: Sequence[int]) -> list[int]:
        """Reserve counts[i] more positions for rows[i]; returns where each row's new ones begin."""
        starts = [self.lengths[row] for row in rows]
        span = max(start + count for start, count in zip(starts, counts, strict=True))
        if span > self.capacity:
            # In leaps, so that a row that grows token by token is not copied for every one.
            self.reserve(max(span, self.capacity * 3 // 2))
        return starts

    def grow(self, rows: Sequence[int], counts: Sequence[int]) -> None:
        """The new positions of rows have been filled and count."""
        for row, count in zip(rows, counts, strict=True):
            self.lengths[row] += count

    def rows(self, rows: Sequence[int], counts: list[int]) -> CacheRows:
        """Prepare a pass in which rows[i], distinct, takes counts[i] >= 1 new positions."""
        device = self.keys.device
        starts = self.make_room(rows, counts)
        width = max(counts)
        span = max(start + count for start, count in zip(starts, counts, strict=True))
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(
            width, device=device
        )
        uniform = len(set(starts)) == 1 and len(set(counts)) == 1
        causal = uniform and starts[0] == 0 and width > 1
        mask = None
        if not causal and not (uniform and width == 1):
            mask = (torch.arange(span, device=device) <= positions[:, :, None])[:, None]
        return CacheRows(self, rows, counts, positions, mask, causal)


@dataclass(frozen=True)
class CacheRows:
    """One pass over some rows: where its tokens go and what they may look at.

    Attributes:
        cache: the storage.
        rows: row indices [B]; consecutive ones are viewed in place, others copied for attention.
        counts: new positions per row; the pass is padded on the right to the largest, T.
        positions: int64 [B, T], the position of every token in its row.
        mask: bool [B, 1, T, S] of keys a query may look at; None where `causal` says it all or
            where every query looks at every key.
        causal: the rows were empty and nothing is padded.
    """

    cache: KVCache
    rows: Sequence[int]
    counts: list[int]
    positions: Tensor
    mask: Tensor | None
    causal: bool

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, kv_heads, T, head_dim] of one layer.

        Returns:
            keys and values [B, kv_heads, S, head_dim] up to the longest row's new end, in the
            dtype of the new ones.
        """
        lengths = self.cache.lengths
        span = max(lengths[row] + count for row, count in zip(self.rows, self.counts, strict=True))
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if max(self.counts) == 1 and min(self.counts) == 1:
            index = torch.tensor(self.rows, device=keys.device)
            keys[index, :, self.positions[:, 0]] = k[:, :, 0].to(keys.dtype)
            values[index, :, self.positions[:, 0]] = v[:, :, 0].to(values.dtype)
        else:
            for i, (row, count) in enumerate(zip(self.rows, self.counts, strict=True)):
                target = slice(lengths[row], lengths[row] + count)
                keys[row, :, target] = k[i, :, :count]
                values[row, :, target] = v[i, :, :count]
        first, rows = self.rows[0], list(self.rows)
        if rows == list(range(first, first + len(rows))):
            together = slice(first, first + len(rows))
            return keys[together, :, :span].to(k.dtype), values[together, :, :span].to(v.dtype)
        return keys[rows, :, :span].to(k.dtype), values[rows, :, :span].to(v.dtype)

    def commit(self) -> None:
        """After the last layer: the new positions count."""
        self.cache.grow(self.rows, self.counts)


@dataclass(frozen=True)
class UncachedRows:
    """A pass over complete sequences that stores nothing, as in training.

    Attributes: as of `CacheRows`.
    """

    counts: list[int]
    positions: Tensor
    mask: Tensor | None
    causal: bool

    @classmethod
    def of(
        cls, counts: list[int], side: Literal["left", "right"], device: torch.device
    ) -> UncachedRows:
        """Rows of counts[i] positions, padded on `side` to the longest.

        With padding on the right, causality already hides it from everything that counts.
        """
        width = max(counts)
        steps = torch.arange(width, device=device)
        if side == "right":
            return cls(counts, steps.expand(len(counts), -1), None, causal=True)
        pads = width - torch.tensor(counts, device=device)[:, None]
        visible = (steps >= pads)[:, None, None]  # Keys that are no padding.
        # A padded query looks at itself, since a softmax over nothing is NaN.
        itself = torch.eye(width, dtype=torch.bool, device=device)
        mask = visible & (steps <= steps[:, None]) | itself
        return cls(counts, (steps - pads).clamp(min=0), mask, causal=False)

    def to(self, device: torch.device) -> UncachedRows:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return UncachedRows(self.counts, self.positions.to(device), mask, self.causal)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values themselves: there is nothing before them."""
        return k, v

    def commit(self) -> None:
        """Nothing is stored."""


Rows = CacheRows | UncachedRows
"""What a decoder extends."""
