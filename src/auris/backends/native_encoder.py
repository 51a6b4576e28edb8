"""The packed parts of an audio encoder, run by the native code: its stem and its layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auris.backends import native
from auris.backends.packed_layers import PackedConv, PackedLinear
from auris.models.aut import AudioEncoder, EncoderLayer
from auris.models.stems import Stem, Stem2d, positioned

TOKENS = 2048
"""Of whole windows that go through the layers at once, about: 60 MB at the published width."""

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
        norm = _norm(encoder.norm)
        self._tensors = layers, norm  # The structs point at them.
        self._layers = (native.EncoderLayerStruct * len(layers))(
            *(
                native.EncoderLayerStruct(*native.pointers(*tensors), *(m.struct for m in matrices))
                for tensors, matrices in layers
            )
        )
        shapes = (len(layers), config.d_model, config.heads, config.ffn)
        self._struct = native.EncoderStruct(
            self._layers, *native.pointers(*norm), *shapes, config.norm_eps
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
        return packed and native.available() and width // heads % native.LANES == 0

    def encode_layers(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """As of `AudioEncoder.encode_layers`; float32 between the integer products."""
        # Windows know nothing of each other, so some at a time take less memory.
        slices = [[0]]
        for size in [size for length in lengths for size in self._windows(length)]:
            if slices[-1][-1] > 0 and slices[-1][-1] + size > TOKENS:
                slices.append([0])
            slices[-1].append(slices[-1][-1] + size)
        states = []
        for part, bounds in zip(tokens.split([s[-1] for s in slices]), slices, strict=True):
            # The native code uses its input up, so it gets a copy in any case.
            x = part.to(torch.float32, copy=True).contiguous()
            out = torch.empty_like(x)
            begins = torch.tensor(bounds, dtype=torch.int32)
            native.call(
                "auris_contextualize",
                *(self._struct, x.data_ptr(), begins.data_ptr(), len(bounds) - 1, out.data_ptr()),
            )
            states.append(out.to(tokens.dtype))
        return torch.cat(states)

    def _windows(self, tokens: int) -> list[int]:
        """Tokens of each window of a clip."""
        full, rest = divmod(tokens, self.window)
        return [self.window] * full + [rest] * (rest > 0)


class NativeStem:
    """Runs the convolutions of a stem over time and frequency; the projection behind is PyTorch's.

    Args:
        encoder: whose stem has packed convolutions, on the CPU; see `runs`.
    """

    def __init__(self, encoder: AudioEncoder) -> None:
        stem = encoder.stem
        assert isinstance(stem, Stem2d)
        assert isinstance(stem.conv2, PackedConv)
        assert isinstance(stem.conv3, PackedConv)
        biases = []
        for conv in (stem.conv1, stem.conv2, stem.conv3):
            assert conv.bias is not None
            biases.append(conv.bias.detach().float().contiguous())
        packed = [stem.conv2.matrix, stem.conv3.matrix]
        first = stem.conv1.weight.detach().float().flatten(1).t().contiguous()  # Tap by tap.
        bins, channels = encoder.config.mel_bins, first.shape[1]
        self._tensors = first, biases, packed  # The struct points at them.
        self._struct = native.StemStruct(
            *native.pointers(first, *biases), *(m.struct for m in packed), bins, channels
        )
        self._shape = -(-bins // 8), channels
        self._out = stem.out

    @staticmethod
    def runs(stem: Stem) -> bool:
        """Whether the native code is there and can run this stem."""
        packed = isinstance(stem.conv2, PackedConv) and isinstance(stem.conv3, PackedConv)
        return packed and native.available() and stem.conv1.out_channels % native.LANES == 0

    def __call__(self, blocks: Tensor) -> Tensor:
        """As of `Stem2d`."""
        convolved = self.convolve(blocks.squeeze(1).float().contiguous())
        # The native code puts the channels of a frequency side by side, `Stem2d` the frequencies.
        rows = convolved.to(self._out.weight.dtype).transpose(2, 3).flatten(2)
        return positioned(self._out(rows))

    def convolve(self, mels: Tensor) -> Tensor:
        """Conv blocks [C, bins, frames], contiguous float32, to [C, tokens, bins / 8, channels]."""
        count, _, frames = mels.shape
        out = torch.empty(count, -(-frames // 8), *self._shape)
        native.call("auris_convolve", self._struct, mels.data_ptr(), count, frames, out.data_ptr())
        return out


def _floats(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().contiguous()


def _norm(norm: nn.Module) -> list[Tensor | None]:
    """Weight and bias; an RMSNorm has no bias."""
    parameters = dict(norm.named_parameters())
    return [_floats(parameters.get(name)) for name in ("weight", "bias")]


def _layer(layer: EncoderLayer) -> tuple[list[Tensor | None], list[native.Matrix]]:
    biases, matrices = [], []
    for name in MATRICES:
        linear = getattr(layer, name)
        assert isinstance(linear, PackedLinear)
        biases.append(_floats(linear.bias))
        matrices.append(linear.matrix)
    return [*_norm(layer.attention_norm), *_norm(layer.ffn_norm), *biases], matrices
