"""The own speaker encoder: AuT layers, attentive statistics pooling, and one embedding a clip.

The audio encoder is that of AuT-Tiny. Its states after some of the layers are put side by side, and
a small network weights them in time, each channel for itself; weighted mean and deviation make the
embedding (Okabe et al., "Attentive statistics pooling for deep speaker embedding", 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from auris.config import SpeakerConfig
from auris.models.aut import AudioEncoder
from auris.models.layers import RMSNorm

LEAST_VARIANCE = 1e-5
"""Smaller variances over time are raised to this, since the slope of a root is infinite at 0."""


class VoiceStatistics(nn.Module):
    """How embeddings vary, within one speaker and between speakers; buffers without gradients.

    Attributes:
        mean: of all embeddings, [embedding].
        axes: directions in which speakers differ most, scaled so that the embeddings of one speaker
            have a variance of 1 in each, [axes, embedding].
        variances: of the means of speakers in these directions, [axes].
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    def __init__(self, axes: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding))
        self.register_buffer("axes", torch.zeros(axes, embedding))
        self.register_buffer("variances", torch.zeros(axes))


class SpeakerEncoder(nn.Module):
    """Log-mels of any number of clips to embeddings of unit length.

    Attributes:
        voices: how the embeddings vary; None where that was not measured.
    """

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config.encoder)
        width = config.encoder.d_model * len(config.depths)
        self.narrow = nn.Linear(width, config.attention)
        self.widen = nn.Linear(config.attention, width)
        self.norm = RMSNorm(2 * width, config.encoder.norm_eps)
        self.out = nn.Linear(2 * width, config.embedding)
        self.voices = VoiceStatistics(config.axes, config.embedding) if config.axes else None

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return self.config.embedding

    def forward(self, mels: Sequence[Tensor], train_stem: bool = True) -> Tensor:
        """Embeddings [clips, embedding] of log-mels [bins, T_i] each.

        Args:
            train_stem: whether gradients reach the stem.
        """
        with torch.set_grad_enabled(train_stem and torch.is_grad_enabled()):
            tokens, lengths = self.encoder.tokens(mels)
        layers = self.encoder.layered(tokens, lengths, self.config.depths)
        states = torch.cat(layers, dim=-1).float()
        scores = self.widen(torch.tanh(self.narrow(states))).float()
        rows = pad_sequence(list(states.split(lengths)), batch_first=True)
        weights = pad_sequence(list(scores.split(lengths)), True, -torch.inf).softmax(1)
        mean = (weights * rows).sum(1)
        variance = (weights * rows.square()).sum(1) - mean.square()
        pooled = torch.cat([mean, variance.clamp(min=LEAST_VARIANCE).sqrt()], dim=-1)
        return F.normalize(self.out(self.norm(pooled)).float(), dim=-1)
