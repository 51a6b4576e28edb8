"""CAM++, a speaker encoder (Wang et al., "CAM++: a fast and efficient network for speaker
verification using context-aware masking", 2023), as its published checkpoints store it.

A small two-dimensional convolution network over time and frequency is followed by three blocks of
densely connected time-delay layers. Each of these multiplies its output by a mask, which is
computed from the means of the whole clip and of stretches of 100 frames. Mean and deviation over
time make the embedding. Batch norms are constants here; those behind a convolution are merged into
it when the weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = 80
"""Filter banks of a frame."""

EPSILON = 1e-5
"""Added to the variances of batch norms."""

MASK_FRAMES = 100
"""Frames whose mean a mask uses, in addition to the mean of all frames."""

BLOCK_DILATIONS = (1, 2, 2)
FIRST_STRIDE = 2
"""Frames of the features to one frame of the time-delay layers."""


@dataclass(frozen=True)
class _Norm:
    """A batch norm as a factor and a summand for each channel."""

    factor: Tensor
    summand: Tensor

    @classmethod
    def read(cls, weights: Mapping[str, Tensor], name: str) -> _Norm:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        scale = weights.get(f"{name}.weight", torch.ones_like(mean))
        factor = scale / (variance + EPSILON).sqrt()
        return cls(factor, weights.get(f"{name}.bias", torch.zeros_like(mean)) - mean * factor)

    def merged(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution without bias, and of the norm behind it."""
        shape = (-1, *[1] * (kernel.dim() - 1))
        return kernel * self.factor.reshape(shape), self.summand

    def rectified(self, x: Tensor) -> Tensor:
        """Norm and ReLU of [channels, frames]."""
        return torch.addcmul(self.summand[:, None], x, self.factor[:, None]).relu_()


@dataclass(frozen=True)
class _ResidualBlock:
    """Two convolutions, and a shortcut that halves the bands where the first one does."""

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    shortcut: tuple[Tensor, Tensor] | None

    @classmethod
    def read(cls, weights: Mapping[str, Tensor], name: str) -> _ResidualBlock:
        shortcut = None
        if f"{name}.shortcut.0.weight" in weights:
            norm = _Norm.read(weights, f"{name}.shortcut.1")
            shortcut = norm.merged(weights[f"{name}.shortcut.0.weight"])
        first, second = (
            _Norm.read(weights, f"{name}.bn{n}").merged(weights[f"{name}.conv{n}.weight"])
            for n in (1, 2)
        )
        return cls(first, second, shortcut)

    def __call__(self, x: Tensor) -> Tensor:
        stride = (1, 1) if self.shortcut is None else (2, 1)
        inner = F.conv2d(x, *self.first, stride=stride, padding=1).relu_()
        inner = F.conv2d(inner, *self.second, padding=1)
        return (
            inner + (x if self.shortcut is None else F.conv2d(x, *self.shortcut, stride))
        ).relu_()


@dataclass(frozen=True)
class _DenseLayer:
    """A time-delay layer with its mask."""

    norm: _Norm
    narrow: tuple[Tensor, Tensor]
    delay: Tensor
    squeeze: tuple[Tensor, Tensor]
    excite: tuple[Tensor, Tensor]
    dilation: int

    @classmethod
    def read(cls, weights: Mapping[str, Tensor], name: str, dilation: int) -> _DenseLayer:
        inner = _Norm.read(weights, f"{name}.nonlinear2.batchnorm")
        mask = f"{name}.cam_layer"
        return cls(
            _Norm.read(weights, f"{name}.nonlinear1.batchnorm"),
            inner.merged(weights[f"{name}.linear1.weight"][:, :, 0]),
            weights[f"{mask}.linear_local.weight"],
            (weights[f"{mask}.linear1.weight"][:, :, 0], weights[f"{mask}.linear1.bias"]),
            (weights[f"{mask}.linear2.weight"][:, :, 0], weights[f"{mask}.linear2.bias"]),
            dilation,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[channels, frames] to the [32, frames] that the layer adds."""
        weight, bias = self.narrow
        inner = torch.addmm(bias[:, None], weight, self.norm.rectified(x)).relu_()
        output = F.conv1d(inner[None], self.delay, padding=self.dilation, dilation=self.dilation)
        return output[0] * self._mask(inner)

    def _mask(self, inner: Tensor) -> Tensor:
        stretches = F.avg_pool1d(inner[None], MASK_FRAMES, MASK_FRAMES, ceil_mode=True)[0]
        context = inner.mean(1, keepdim=True) + stretches
        hidden = torch.addmm(self.squeeze[1][:, None], self.squeeze[0], context).relu_()
        mask = torch.addmm(self.excite[1][:, None], self.excite[0], hidden).sigmoid_()
        return mask.repeat_interleave(MASK_FRAMES, 1)[:, : inner.shape[1]]


class CamPlusPlus:
    """The network with the weights of a checkpoint; its embeddings have unit length.

    Args:
        weights: by the names of the published checkpoints.

    Raises:
        KeyError: a weight is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        norm = _Norm.read(weights, "head.bn1")
        self._first = norm.merged(weights["head.conv1.weight"])
        self._residual = [
            _ResidualBlock.read(weights, f"head.layer{layer}.{block}")
            for layer in (1, 2)
            for block in (0, 1)
        ]
        self._last = _Norm.read(weights, "head.bn2").merged(weights["head.conv2.weight"])
        norm = _Norm.read(weights, "xvector.tdnn.nonlinear.batchnorm")
        self._delay = norm.merged(weights["xvector.tdnn.linear.weight"])
        self._blocks = [
            (
                list(_dense_layers(weights, f"xvector.block{number}", dilation)),
                *_transit(weights, number),
            )
            for number, dilation in enumerate(BLOCK_DILATIONS, 1)
        ]
        self._end = _Norm.read(weights, "xvector.out_nonlinear.batchnorm")
        norm = _Norm.read(weights, "xvector.dense.nonlinear.batchnorm")
        self._dense = norm.merged(weights["xvector.dense.linear.weight"][:, :, 0])
        self.width = len(self._dense[1])

    @torch.inference_mode()
    def embed(self, features: Tensor) -> Tensor:
        """The embedding [width] of a clip.

        Args:
            features: log filter banks, float32 [frames, 80]; their mean over the clip is left out.
        """
        features = features - features.mean(0)
        x = F.conv2d(features.T[None, None], *self._first, padding=1).relu_()
        for block in self._residual:
            x = block(x)
        x = F.conv2d(x, *self._last, stride=(2, 1), padding=1).relu_()
        x = x.flatten(1, 2)
        x = F.conv1d(x, *self._delay, stride=FIRST_STRIDE, padding=2)[0].relu_()
        for layers, norm, weight in self._blocks:
            x = weight @ norm.rectified(_densely(layers, x))
        x = self._end.rectified(x)
        deviation = x.std(1) if x.shape[1] > 1 else torch.full_like(x[:, 0], 1e-2)
        embedding = torch.addmv(self._dense[1], self._dense[0], torch.cat([x.mean(1), deviation]))
        return F.normalize(embedding, dim=0)


def _dense_layers(
    weights: Mapping[str, Tensor], block: str, dilation: int
) -> Iterator[_DenseLayer]:
    number = 1
    while f"{block}.tdnnd{number}.linear1.weight" in weights:
        yield _DenseLayer.read(weights, f"{block}.tdnnd{number}", dilation)
        number += 1


def _transit(weights: Mapping[str, Tensor], number: int) -> tuple[_Norm, Tensor]:
    name = f"xvector.transit{number}"
    norm = _Norm.read(weights, f"{name}.nonlinear.batchnorm")
    return norm, weights[f"{name}.linear.weight"][:, :, 0]


def _densely(layers: list[_DenseLayer], x: Tensor) -> Tensor:
    """Input and outputs of all layers: each layer sees everything before it."""
    added = sum(len(layer.delay) for layer in layers)
    joined = x.new_empty(len(x) + added, x.shape[1])
    joined[: len(x)] = x
    end = len(x)
    for layer in layers:
        output = layer(joined[:end])
        joined[end : end + len(output)] = output
        end += len(output)
    return joined
