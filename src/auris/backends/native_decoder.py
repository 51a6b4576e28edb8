"""A decoder run by the native code: a pass over any rows of a cache in one call.

Its weights are packed integers, or in bfloat16 or float16 as they are stored. Activations are in
float32 between the products, so 16-bit weights give the scores of the same model in float32, but
for the keys and values, which the cache rounds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from auris.backends import native
from auris.backends.base import Choice
from auris.backends.packed_layers import Packed, PackedLinear
from auris.config import DecoderConfig
from auris.models.cache import KVCache
from auris.models.layers import rope_tables
from auris.models.qwen3 import Decoder, DecoderLayer

FIRST_POSITIONS = 1024
"""Positions whose angles are computed at first."""

LONGEST_STEP = 16
"""New positions of a row, at most, that are computed from 16-bit weights by native code, where
PyTorch computes in their format. Then prompts are left to PyTorch."""

Weights = Literal["packed", "16-bit"]


def runs_half(config: DecoderConfig) -> bool:
    """Whether native code is there and can run a decoder of such a shape with 16-bit weights."""
    return native.available() and config.head_dim % native.LANES == 0


def native_weights(decoder: Decoder) -> Weights | None:
    """What the native code would run a decoder with; None where PyTorch runs it.

    This alone decides. The native code has to be there, and all matrices of the layers have to be
    packed, or in one of `native.HALF_FORMATS` in the memory of the CPU.
    """
    if not runs_half(decoder.config):
        return None
    matrices = [
        getattr(layer, name)
        for layer in decoder.layers
        for name in ("qkv", "out", "gate_up", "down")
    ]
    if all(isinstance(matrix, PackedLinear) for matrix in matrices):
        return "packed"
    head = decoder.embed if decoder.config.tied else decoder.head
    return "16-bit" if all(_is_half(module) for module in [*matrices, head]) else None


def _is_half(module: nn.Module) -> bool:
    if not isinstance(module, (nn.Linear, nn.Embedding)):
        return False
    weight = module.weight
    return (
        isinstance(weight, Tensor)
        and weight.dtype in native.HALF_FORMATS
        and weight.device.type == "cpu"
        and weight.is_contiguous()
    )


class NativeDecoder:
    """Runs the layers of a decoder, and its head; embeddings are the caller's.

    Args:
        decoder: one that `native_weights` names a kind of weights for.
        prompts: whether it runs prompts, too, with 16-bit weights; see `LONGEST_STEP`.

    Attributes:
        weights: that kind.
        prompts: whether it runs passes of any length.
        head, embeddings: what scores states, and the vectors of tokens, as matrices; None where
            PyTorch uses them.
        chooses: whether `best` and `step` choose tokens.
    """

    def __init__(self, decoder: Decoder, prompts: bool = False) -> None:
        config = decoder.config
        self.config = config
        weights = native_weights(decoder)
        assert weights is not None
        self.weights: Weights = weights
        self.prompts = prompts or weights == "packed"
        self.rope = self._angles(FIRST_POSITIONS)
        head = decoder.embed if config.tied else decoder.head
        self.head, self.embeddings = (
            _matrix(module) if isinstance(module, Packed) or _is_half(module) else None
            for module in (head, decoder.embed)
        )
        unsplit = isinstance(head, Packed) and not head.packing.halves
        self.chooses = None not in (self.head, self.embeddings) and not unsplit
        layers = [_layer(layer) for layer in decoder.layers if isinstance(layer, DecoderLayer)]
        norm = decoder.norm.weight.detach().float()
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

    def takes(self, counts: Sequence[int]) -> bool:
        """Whether a pass in which rows take so many new positions is for the native code."""
        return self.prompts or max(counts) <= LONGEST_STEP

    def extend(
        self, cache: KVCache, inputs: Sequence[Tensor], rows: Sequence[int], every: bool
    ) -> list[Tensor]:
        """Append to rows.

        Args:
            cache: grows by the inputs' lengths.
            inputs: per row its embeddings [T_i, hidden], at least one.
            rows: rows that the inputs belong to.
            every: whether to return the states after every new position, or after the last only.

        Returns:
            normed states [T_i or 1, hidden] of every row, in float32.
        """
        counts = [len(item) for item in inputs]
        starts = self._make_room(cache, rows, counts)
        targets = [
            (row, start + step)
            for row, start, count in zip(rows, starts, counts, strict=True)
            for step in range(count)
        ]
        index = torch.tensor([*zip(*targets, strict=True)], dtype=torch.int32)
        last = torch.tensor(counts, dtype=torch.int32).cumsum(0, dtype=torch.int32) - 1
        scored = torch.arange(len(targets), dtype=torch.int32) if every else last
        states = torch.empty(len(scored), self.config.hidden)
        x = torch.cat(list(inputs)).float()  # A copy: the native code uses it up.
        tensors = native.pointers(x, index[0], index[1], *self.rope, scored, states)
        native.call(
            "auris_extend",
            self._struct,
            _cache_struct(cache),
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
        return _choices(native.best(states, self.head, exact))

    def step(
        self, cache: KVCache, tokens: Sequence[int], rows: Sequence[int], exact: bool
    ) -> list[Choice]:
        """`best` of one token for each row, by its id: one call of the native code."""
        assert self.head is not None
        assert self.embeddings is not None
        counts = [1] * len(rows)
        starts = self._make_room(cache, rows, counts)
        numbers = ctypes.c_int32 * len(rows)
        choices = (native.ChoiceStruct * len(rows))()
        native.call(
            "auris_decode",
            self._struct,
            self.embeddings.struct,
            self.head.struct,
            _cache_struct(cache),
            native.StepStruct(
                *(numbers(*values) for values in (tokens, rows, starts)),
                *native.pointers(*self.rope),
                len(rows),
                exact,
            ),
            choices,
        )
        cache.grow(rows, counts)
        return _choices(choices)

    def scores(self, states: Tensor) -> Tensor:
        """Vocabulary scores [..., vocab] of normed states [..., hidden] in float32."""
        assert self.head is not None
        rows = states.reshape(-1, self.config.hidden).contiguous()
        return native.products(rows, self.head).reshape(*states.shape[:-1], -1)

    def _make_room(self, cache: KVCache, rows: Sequence[int], counts: Sequence[int]) -> list[int]:
        """As of the cache; the tables of angles grow with it."""
        starts = cache.make_room(rows, counts)
        if cache.capacity > len(self.rope[0]):
            self.rope = self._angles(cache.capacity)
        return starts

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, head_dim / 2]; both halves of a head turn alike."""
        tables = rope_tables(torch.arange(positions), self.config.head_dim, self.config.rope_theta)
        half = self.config.head_dim // 2
        cosines, sines = (table[:, :half].contiguous() for table in tables)
        return cosines, sines


def _cache_struct(cache: KVCache) -> native.CacheStruct:
    storage = native.pointers(cache.keys, cache.values)
    form = native.FORMATS[cache.keys.dtype]
    return native.CacheStruct(*storage, *cache.keys.stride()[:3], form)


def _choices(results: Iterable[native.ChoiceStruct]) -> list[Choice]:
    return [Choice(one.token, one.logprob, one.margin) for one in results]


def _matrix(module: nn.Module) -> native.Matrix:
    if isinstance(module, Packed):
        return module.matrix
    weight = module.weight
    assert isinstance(weight, Tensor)
    return native.Matrix(weight.detach(), None, weight.shape[1])


def _layer(layer: DecoderLayer) -> tuple[list[Tensor], list[native.Matrix]]:
    norms = (layer.attention_norm, layer.q_norm, layer.k_norm, layer.ffn_norm)
    matrices = [_matrix(module) for module in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    return [norm.weight.detach().float() for norm in norms], matrices
