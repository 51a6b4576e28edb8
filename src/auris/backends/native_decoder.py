"""A packed decoder run by the native code: a pass over any rows of a cache in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auris.backends import native
from auris.backends.base import Choice
from auris.backends.packed_layers import Packed, PackedLinear
from auris.models.cache import KVCache
from auris.models.layers import rope_tables
from auris.models.qwen3 import Decoder, DecoderLayer

FIRST_POSITIONS = 1024
"""Positions whose angles are computed at first."""


class NativeDecoder:
    """Runs the layers of a decoder; embeddings are the caller's.

    Args:
        decoder: all its matrices packed, its norms in float32, on the CPU; see `runs`.
    """

    def __init__(self, decoder: Decoder) -> None:
        config = decoder.config
        self.config = config
        self.rope = self._angles(FIRST_POSITIONS)
        head = decoder.embed if config.tied else decoder.head
        self.head = head.matrix if isinstance(head, Packed) else None
        self.has_halves = isinstance(head, Packed) and head.packing.halves
        layers = [_layer(layer) for layer in decoder.layers if isinstance(layer, DecoderLayer)]
        norm = decoder.norm.weight.detach()
        self._tensors = layers, norm  # The structs point at them.
        self._layers = (native.DecoderLayerStruct * len(layers))(
            *(
                native.DecoderLayerStruct(*native.pointers(*norms), *(m.struct for m in matrices))
                for norms, matrices in layers
            )
        )
        shapes = (config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn)
        self._struct = native.DecoderStruct(
            self._layers, norm.data_ptr(), len(layers), *shapes, config.rms_eps
        )

    @staticmethod
    def runs(decoder: Decoder) -> bool:
        """Whether the native code is there and can run this decoder."""
        packed = all(
            isinstance(getattr(layer, name), PackedLinear)
            for layer in decoder.layers
            for name in ("qkv", "out", "gate_up", "down")
        )
        return packed and native.available() and decoder.config.head_dim % native.LANES == 0

    def extend(
        self, cache: KVCache, inputs: Sequence[Tensor], rows: Sequence[int], every: bool
    ) -> list[Tensor]:
        """Append to rows.

        Args:
            cache: grows by the inputs' lengths.
            inputs: per row its embeddings [T_i, hidden] in float32, at least one.
            rows: rows that the inputs belong to.
            every: whether to return the states after every new position, or after the last only.

        Returns:
            normed states [T_i or 1, hidden] of every row.
        """
        counts = [len(item) for item in inputs]
        starts = cache.make_room(rows, counts)
        targets = [
            (row, start + step)
            for row, start, count in zip(rows, starts, counts, strict=True)
            for step in range(count)
        ]
        if cache.capacity > len(self.rope[0]):
            self.rope = self._angles(cache.capacity)
        index = torch.tensor([*zip(*targets, strict=True)], dtype=torch.int32)
        last = torch.tensor(counts, dtype=torch.int32).cumsum(0, dtype=torch.int32) - 1
        scored = torch.arange(len(targets), dtype=torch.int32) if every else last
        states = torch.empty(len(scored), self.config.hidden)
        x = torch.cat(list(inputs))  # The native code uses it up.
        tensors = native.pointers(x, index[0], index[1], *self.rope, scored, states)
        storage = native.pointers(cache.keys, cache.values)
        bfloat16 = cache.keys.dtype == torch.bfloat16
        native.call(
            "auris_extend",
            self._struct,
            native.CacheStruct(*storage, *cache.keys.stride()[:3], bfloat16),
            native.PassStruct(*tensors, len(x), len(scored)),
        )
        cache.grow(rows, counts)
        return list(states.split(counts if every else 1))

    def best(
        self, cache: KVCache, inputs: Sequence[Tensor], rows: Sequence[int], exact: bool
    ) -> list[Choice]:
        """Append to rows and choose the best token after each; see `native.best`.

        Args:
            cache, inputs, rows: as of `extend`.
            exact: whether the log-probability of a single row is to be exact.
        """
        assert self.head is not None
        states = torch.cat(self.extend(cache, inputs, rows, every=False))
        tokens, logprobs, margins, _ = native.best(states, self.head, exact)
        columns = (tokens.tolist(), logprobs.tolist(), margins.tolist())
        return [Choice(*row) for row in zip(*columns, strict=True)]

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, head_dim / 2]; both halves of a head turn alike."""
        tables = rope_tables(torch.arange(positions), self.config.head_dim, self.config.rope_theta)
        half = self.config.head_dim // 2
        cosines, sines = (table[:, :half].contiguous() for table in tables)
        return cosines, sines


def _layer(layer: DecoderLayer) -> tuple[list[Tensor], list[native.Matrix]]:
    norms = (layer.attention_norm, layer.q_norm, layer.k_norm, layer.ffn_norm)
    matrices = []
    for module in (layer.qkv, layer.out, layer.gate_up, layer.down):
        assert isinstance(module, PackedLinear)
        matrices.append(module.matrix)
    return [norm.weight.detach() for norm in norms], matrices
