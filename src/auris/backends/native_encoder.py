"""The packed layers of an audio encoder run by the native code in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auris.backends import native
from auris.backends.native_step import LANES
from auris.backends.quant import PackedLinear
from auris.models.aut import AudioEncoder, EncoderLayer

__all__ = ["NativeEncoder"]

MATRICES = ("qkv", "out", "up", "down")


class NativeEncoder:
    """Runs the layers of an encoder; the stem is the caller's.

    Args:
        encoder: all matrices of its layers packed, on the CPU; see `runs`.
    """

    def __init__(self, encoder: AudioEncoder) -> None:
        config = encoder.config
        self.window = config.window_tokens
        layers = [_layer(layer) for layer in encoder.layers if isinstance(layer, EncoderLayer)]
        self.encoding = native.Encoding(
            layers, _norm(encoder.norm), config.heads, config.ffn, config.norm_eps
        )

    @staticmethod
    def runs(encoder: AudioEncoder) -> bool:
        """Whether the native code is there and can run this encoder."""
        packed = all(
            isinstance(getattr(layer, name), PackedLinear)
            for layer in encoder.layers
            for name in MATRICES
        )
        width, heads = encoder.config.d_model, encoder.config.heads
        return packed and native.available() and width // heads % LANES == 0

    def contextualize(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """As of `AudioEncoder.contextualize`; float32 between the integer products."""
        windows = [0]
        for length in lengths:
            end = windows[-1] + length
            windows += [*range(windows[-1] + self.window, end, self.window), end]
        # The native code uses its input up, so it gets a copy in any case.
        x = tokens.to(torch.float32, copy=True).contiguous()
        return self.encoding.contextualize(x, windows).to(tokens.dtype)


def _floats(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().contiguous()


def _norm(norm: nn.Module) -> list[Tensor | None]:
    """Weight and bias; an RMSNorm has none."""
    return [_floats(norm.weight), _floats(getattr(norm, "bias", None))]


def _layer(layer: EncoderLayer) -> tuple[list[Tensor | None], list[native.Matrix]]:
    biases, matrices = [], []
    for name in MATRICES:
        linear = getattr(layer, name)
        assert isinstance(linear, PackedLinear)
        biases.append(_floats(linear.bias))
        matrices.append(linear.matrix)
    return [*_norm(layer.attention_norm), *_norm(layer.ffn_norm), *biases], matrices
