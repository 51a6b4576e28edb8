"""Small parts that both sides of the model share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / rms(x) * weight, with the mean square taken in float32 (Zhang & Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis."""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class TokenEmbedding(nn.Embedding):
    """Vectors of tokens, which score the next token as well where the two are tied."""

    def scores(self, states: Tensor) -> Tensor:
        """Products [..., vocab] of states [..., hidden] with every token's vector."""
        return F.linear(states, self.weight)


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Position table [length, width]: sines, then cosines, of timescales from 1 to 10000."""
    half = width // 2
    timescales = torch.exp(
        -math.log(10_000.0) / max(half - 1, 1) * torch.arange(half, device=device).float()
    )
    angles = torch.arange(length, device=device)[:, None] * timescales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def rope_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines for rotary positions, float32 [*positions, head_dim].

    M-RoPE with its interleaved sections is the same thing here, because audio and text share
    one position axis.
    """
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float()
    frequencies = 1.0 / (theta ** (steps / head_dim))
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the split halves of the last axis by the tables' angles (Su et al., 2021)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
