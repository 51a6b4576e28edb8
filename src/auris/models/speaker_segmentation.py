"""Speaker segmentation of ten-second windows: who of up to three speakers speaks in which frame.

The network (Bredin, "pyannote.audio 2.1 speaker diarization pipeline", 2023; Plaquet and Bredin,
"Powerset multi-class cross entropy loss for neural speaker diarization", 2023) has filters given by
two cut-off frequencies each (SincNet), recurrent layers in both directions, and a class for every
set of up to two of three speakers. The order of the speakers differs from window to window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPEAKERS = 3
"""Speakers that a window can tell apart."""

AT_ONCE = 2
"""Of them who may speak at once."""

STRIDE = 10
POOL = 3
LEAST_HZ = 50.0
"""Lowest cut-off frequency, and smallest width of a filter."""

CENTER = 495
"""Sample at the centre of the first frame."""

STEP = STRIDE * POOL**3
"""Samples between the centres of frames."""

SETS = tuple(
    members for size in range(AT_ONCE + 1) for members in combinations(range(SPEAKERS), size)
)
"""The speakers of each class."""


class SpeakerSegmentation:
    """The network with the weights of a checkpoint.

    Args:
        weights: by the names of the published checkpoints.
        rate: samples per second of the input.

    Raises:
        KeyError, RuntimeError: a weight is missing or has another shape.
    """

    separates = True

    def __init__(self, weights: Mapping[str, Tensor], rate: int) -> None:
        self._weights = weights
        self._filters = _band_filters(weights, rate)
        recurrent = {
            name.removeprefix("lstm."): weight
            for name, weight in weights.items()
            if name.startswith("lstm.")
        }
        hidden = weights["lstm.weight_hh_l0"].shape[1]
        layers = sum(name.startswith("weight_hh_l") for name in recurrent) // 2
        inputs = weights["lstm.weight_ih_l0"].shape[1]
        self._recurrent = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=True)
        self._recurrent.load_state_dict(recurrent)
        self._recurrent.eval()
        sets = torch.zeros(len(SETS), SPEAKERS, dtype=torch.bool)
        for row, members in zip(sets, SETS, strict=True):
            row[list(members)] = True
        self._sets = sets

    @torch.inference_mode()
    def active(self, samples: Tensor) -> Tensor:
        """Which speakers are active, bool [frames, 3], in float32 samples [S]."""
        x = self._normed(samples[None, None], "sincnet.wav_norm1d")
        x = F.conv1d(x, self._filters, stride=STRIDE).abs()
        x = self._pooled(x, 0)
        for number in (1, 2):
            name = f"sincnet.conv1d.{number}"
            x = F.conv1d(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])
            x = self._pooled(x, number)
        x, _ = self._recurrent(x.transpose(1, 2))
        for name in ("linear.0", "linear.1"):
            x = F.leaky_relu(self._linear(x, name))
        return self._sets[self._linear(x, "classifier")[0].argmax(1)]

    def _pooled(self, x: Tensor, number: int) -> Tensor:
        x = F.max_pool1d(x, POOL, POOL)
        return F.leaky_relu_(self._normed(x, f"sincnet.norm1d.{number}"))

    def _normed(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.instance_norm(x, weight=weight, bias=bias)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _band_filters(weights: Mapping[str, Tensor], rate: int) -> Tensor:
    """Even and odd band-pass filters [filters, 1, taps]: each a difference of two sinc functions
    (cosine, sine) under a window. The stored window is its first half, without the centre."""
    name = "sincnet.conv1d.0.filterbank"
    low = LEAST_HZ + weights[f"{name}.low_hz_"].abs()
    width = LEAST_HZ + weights[f"{name}.band_hz_"].abs()
    high = (low + width).clamp(LEAST_HZ, rate / 2)
    window = weights[f"{name}.window_"]
    half = len(window)
    times = 2 * math.pi * torch.arange(-half, 0) / rate
    even = ((high * times).sin() - (low * times).sin()) / (times / 2) * window
    odd = ((low * times).cos() - (high * times).cos()) / (times / 2) * window
    width = high - low
    evens = torch.cat([even, 2 * width, even.flip(1)], 1) / (2 * width)
    odds = torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], 1) / (2 * width)
    return torch.cat([evens, odds])[:, None].float()
