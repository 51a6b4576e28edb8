"""A cache whose rows stay in their slots, for passes whose shapes are fixed.

A slot is a place in the storage, a row an index among those in use. A row has the same slot until
it is dropped; then the slot is free, and nothing is moved. The storage has sizes out of few, so
that passes over it have few shapes. It moves only when it grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auris.config import DecoderConfig
from auris.models.attention import single_query_attention
from auris.models.cache import KVCache

FIRST_SPAN = 256
"""Positions of the shortest span that a pass looks at."""


def width_for(slots: int) -> int:
    """The smallest width of a pass over so many slots: a power of two."""
    return 1 << max(slots - 1, 0).bit_length()


def span_for(positions: int) -> int:
    """The smallest span that has room for so many positions."""
    span = FIRST_SPAN
    while span < positions:
        span *= 2
    return span


class SlotCache(KVCache):
    """Keys and values in slots.

    Args:
        config: the decoder's shapes.
        rows: how many rows may be in use at once.
        slots: how many of them have memory from the beginning.
        capacity: positions a row has room for at first.
        dtype, device: of keys and values.

    Attributes:
        slots: the slot of every row in use.
        moves: how often the storage has moved.
    """

    def __init__(
        self,
        config: DecoderConfig,
        rows: int,
        slots: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.slots: list[int] = []
        self.moves = -1
        super().__init__(config, rows, 0, dtype, device)
        self._move(slots, capacity)

    @property
    def capacity(self) -> int:
        """Positions a row has room for. One more is written by passes for slots without a row."""
        return self.keys.shape[3] - 1

    @property
    def width(self) -> int:
        """Slots that have memory."""
        return self.keys.shape[1]

    def storage_index(self, row: int) -> int:
        """The slot of a row."""
        return self.slots[row]

    def _move(self, rows: int, capacity: int) -> None:
        super()._move(width_for(rows), span_for(capacity) + 1)
        self.moves += 1

    def admit(self, count: int = 1) -> range:
        """Begin `count` empty rows, each in the lowest free slot; returns their indices."""
        rows = super().admit(count)
        free = sorted(set(range(self.width)) - set(self.slots))
        self.slots += free[:count]
        return rows

    def drop(self, row: int) -> None:
        """End `row`; the last row takes its index, and stays in its own slot."""
        last = len(self.lengths) - 1
        if not 0 <= row <= last:
            raise ValueError(f"row {row} is not among the {last + 1} in use")
        for column in (self.lengths, self.slots):
            column[row] = column[last]
            column.pop()

    def clear(self) -> None:
        """End all rows."""
        self.lengths.clear()
        self.slots.clear()

    def move_row(self, row: int, slot: int) -> None:
        """Copy a row to a slot that is free; its own becomes free."""
        filled, old = self.lengths[row], self.slots[row]
        self.keys[:, slot, :, :filled] = self.keys[:, old, :, :filled]
        self.values[:, slot, :, :filled] = self.values[:, old, :, :filled]
        self.slots[row] = slot

    def slot_pass(self, width: int, span: int, lengths: Tensor, active: Tensor) -> SlotPass:
        """Prepare a pass in which each of the first slots takes one new position; those that are
        not active take it behind the last position of their row.

        Args:
            width: how many slots.
            span: positions that are looked at, at least one more than any active row has.
            lengths: int64 [slots], positions of every slot.
            active: bool [slots].
        """
        device = self.keys.device
        positions = lengths[:width, None]
        targets = torch.where(active[:width], lengths[:width], self.capacity)
        hidden = torch.arange(span, device=device) > positions
        mask = torch.zeros(hidden.shape, dtype=self.keys.dtype, device=device)
        mask = mask.masked_fill(hidden, float("-inf"))[:, None, None]
        return SlotPass(self, torch.arange(width, device=device), positions, targets, mask)


@dataclass(frozen=True)
class SlotPass:
    """A pass over the first slots of a cache. Nothing in it depends on numbers of the host but its
    width and its span.

    Attributes:
        cache: the storage.
        slots: int64 [B], 0 to B - 1.
        positions: int64 [B, 1], the position of the token of every slot.
        targets: int64 [B], where its keys and values are written.
        mask: added to scores, [B, 1, 1, span].
    """

    cache: SlotCache
    slots: Tensor
    positions: Tensor
    targets: Tensor
    mask: Tensor

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store keys and values [B, kv_heads, 1, head_dim] of one layer; returns what queries
        [B, heads, 1, head_dim] see."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[self.slots, :, self.targets] = k[:, :, 0]
        values[self.slots, :, self.targets] = v[:, :, 0]
        width, span = len(self.slots), self.mask.shape[-1]
        seen = keys[:width, :, :span], values[:width, :, :span]
        return single_query_attention(q, *seen, self.mask)

    def commit(self) -> None:
        """The lengths are counted by the caller."""
