"""Keys and values of a batch whose rows have different lengths.

Storage is laid out for a number of positions, and for rows as they come: a row is large, and a
batch seldom has as many as it may. Rows 0..count-1 are in use; a row is admitted at the end and
dropped by moving the last row into its place, so that the rows in use always form one dense batch.
Rolling back is forgetting: positions past a row's length are never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from auris.config import DecoderConfig
from auris.models import pages
from auris.models.attention import cached_attention

FEW_POSITIONS = 8
"""Positions of a row up to which numpy copies faster than PyTorch, on the CPU."""


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
        self.keys = pages.zeros(shape, dtype, device)
        self.values = pages.zeros(shape, dtype, device)
        self.lengths: list[int] = []

    @property
    def capacity(self) -> int:
        """Positions a row has room for."""
        return self.keys.shape[3]

    @property
    def room(self) -> int:
        """Rows that can still be admitted."""
        return self._most - len(self.lengths)

    def storage_index(self, row: int) -> int:
        """Where the storage has a row."""
        return row

    def reserve(self, capacity: int) -> None:
        """Make room for at least `capacity` positions a row, keeping what is there."""
        if capacity > self.capacity:
            self._move(self.keys.shape[1], capacity)

    def _move(self, rows: int, capacity: int) -> None:
        """To larger storage; of the old one only what is filled."""
        used = max(map(self.storage_index, range(len(self.lengths))), default=-1) + 1
        filled = max(self.lengths, default=0)
        wider = []
        for old in (self.keys, self.values):
            layers, _, heads, _, width = old.shape
            new = pages.zeros((layers, rows, heads, capacity, width), old.dtype, old.device)
            new[:, :used, :, :filled] = old[:, :used, :, :filled]
            wider.append(new)
        # Both or, where memory is full, none: native code takes them to have the same strides. So
        # the old keys stay until the new values are there.
        self.keys, self.values = wider

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
        length, to, origin = (
            self.lengths[source],
            self.storage_index(row),
            self.storage_index(source),
        )
        for stored in (self.keys, self.values):
            positions: Any = stored
            if stored.device.type == "cpu" and length - start <= FEW_POSITIONS:
                # numpy takes less time for a call, and more for the bytes.
                positions = stored.view(torch.uint8).numpy()
            positions[:, to, :, start:length] = positions[:, origin, :, start:length]
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

    def copy_row(self, row: int, source: KVCache, source_row: int, length: int) -> None:
        """Fill `row`, which is empty, with the first `length` positions of a row of a cache."""
        self.make_room([row], [length])
        to, origin = self.storage_index(row), source.storage_index(source_row)
        self.keys[:, to, :, :length] = source.keys[:, origin, :, :length]
        self.values[:, to, :, :length] = source.values[:, origin, :, :length]
        self.lengths[row] = length

    def rows(self, rows: Sequence[int], counts: Sequence[int]) -> CacheRows:
        """Prepare a pass in which rows[i], distinct, takes counts[i] >= 1 new positions."""
        starts = self.make_room(rows, counts)
        spans = list(zip(rows, starts, counts, strict=True))
        # Rows of a step attend together wherever they begin, others where they are alike.
        alike = groupby(spans, lambda span: (span[2], span[1] if span[2] > 1 else 0))
        groups = tuple(self._group(list(members)) for _, members in alike)
        device = self.keys.device
        positions = [torch.arange(start, start + count) for _, start, count in spans]
        return CacheRows(self, groups, torch.cat(positions)[None].to(device))

    def _group(self, spans: Sequence[tuple[int, int, int]]) -> RowGroup:
        """Rows with as many new positions each: their row, start and number of these."""
        rows, starts, counts = (list(column) for column in zip(*spans, strict=True))
        device = self.keys.device
        positions = torch.tensor(starts)[:, None] + torch.arange(counts[0])
        first, end = positions[:, 0], max(starts) + counts[0]
        causal = counts[0] > 1 and not starts[0]
        mask = None
        if not causal and (counts[0] > 1 or len(set(starts)) > 1):
            mask = (torch.arange(end) <= positions[:, :, None])[:, None].to(device)
        indices = tuple(self.storage_index(row) for row in rows)
        targets = torch.tensor(indices).to(device), first.to(device)
        return RowGroup(self, rows, indices, targets, counts[0], end, mask, causal)


@dataclass(frozen=True)
class RowGroup:
    """Rows that take as many new positions each, and attend as one dense batch [B, ...].

    Attributes:
        cache: the storage.
        rows: row indices.
        indices: where the storage has them; consecutive ones are viewed in place, others copied for
            attention.
        targets: the same, and the first new position of each, int64 [B] on the device.
        count: new positions of each.
        end: what the longest row has afterwards.
        mask: bool [B, 1, count, end] of keys a query may look at; None where `causal` says it all
            or where every query looks at every key.
        causal: several positions of rows that were empty.
    """

    cache: KVCache
    rows: Sequence[int]
    indices: tuple[int, ...]
    targets: tuple[Tensor, Tensor]
    count: int
    end: int
    mask: Tensor | None
    causal: bool

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store keys and values [B, kv_heads, count, head_dim]; returns what queries
        [B, heads, count, head_dim] see."""
        keys, values = self._append(layer, k, v)
        return cached_attention(q, keys.to(k.dtype), values.to(v.dtype), self.mask, self.causal)

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values; returns those of the rows so far [B, kv_heads, end, head_dim]."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        index, starts = self.targets
        if self.count == 1:
            keys[index, :, starts] = k[:, :, 0].to(keys.dtype)
            values[index, :, starts] = v[:, :, 0].to(values.dtype)
        else:
            # The starts of several positions are equal.
            for stored, new_keys, new_values in zip(self.indices, k, v, strict=True):
                keys[stored, :, self.end - self.count : self.end] = new_keys
                values[stored, :, self.end - self.count : self.end] = new_values
        first, count = self.indices[0], len(self.indices)
        together: slice | Tensor = index
        if self.indices == tuple(range(first, first + count)):
            together = slice(first, first + count)
        return keys[together, :, : self.end], values[together, :, : self.end]


@dataclass(frozen=True)
class CacheRows:
    """One pass over some rows, packed: the new positions of all rows, one row after the other.

    Attributes:
        cache: the storage.
        groups: the rows in order, neighbours that are alike as one group.
        positions: int64 [1, N], the position of every token in its row.
    """

    cache: KVCache
    groups: tuple[RowGroup, ...]
    positions: Tensor

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store new keys and values [1, kv_heads, N, head_dim] of one layer; returns what queries
        [1, heads, N, head_dim] see in their rows."""
        sizes = [len(group.rows) * group.count for group in self.groups]
        parts = zip(*(tensor[0].split(sizes, dim=1) for tensor in (q, k, v)), strict=True)
        attended = []
        for group, part in zip(self.groups, parts, strict=True):
            dense = (t.unflatten(1, (len(group.rows), -1)).transpose(0, 1) for t in part)
            attended.append(group.attend(layer, *dense).transpose(0, 1).flatten(1, 2))
        return torch.cat(attended, dim=1)[None]

    def commit(self) -> None:
        """After the last layer: the new positions count."""
        for group in self.groups:
            self.cache.grow(group.rows, [group.count] * len(group.rows))


@dataclass(frozen=True)
class UncachedRows:
    """A pass over complete sequences that stores nothing, as in training.

    Attributes:
        counts: positions per row; the pass is padded to the largest, T.
        positions: int64 [B, T], the position of every token in its row.
        mask: bool [B, 1, T, T] of keys a query may look at, or None.
        causal: whether every query looks at what is before it, instead of the mask.
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

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What queries [B, heads, T, head_dim] see among keys and values of the same pass."""
        return cached_attention(q, k, v, self.mask, self.causal)

    def commit(self) -> None:
        """Nothing is stored."""


class Rows(Protocol):
    """What a decoder extends."""

    @property
    def positions(self) -> Tensor:
        """int64 [B, T], the position of every token in its row."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store new keys and values [B, kv_heads, T, head_dim] of one layer; returns what queries
        [B, heads, T, head_dim] see in their rows."""

    def commit(self) -> None:
        """After the last layer: the new positions count."""
