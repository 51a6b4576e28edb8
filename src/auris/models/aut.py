"""The AuT audio encoder and its projector: mel in, 12.5 tokens a second out.

Both families are one architecture: three stride-2 convolutions over conv blocks of one second,
positions that begin anew in every conv block (`stems`), and pre-norm transformer blocks that attend
inside windows of at most eight seconds. The published family norms with LayerNorm, AuT-Tiny with
RMSNorm.

Source: Qwen3-ASR technical report (arXiv 2601.21337) and the `qwen3_asr` model of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auris.config import (
    CONV_BLOCK_FRAMES,
    CONV_BLOCK_TOKENS,
    AutConfig,
    ProjectorConfig,
    audio_tokens,
)
from auris.models.attention import Windows, windowed_attention
from auris.models.layers import RMSNorm
from auris.models.stems import make_stem

STEM_BLOCKS = 64
"""Conv blocks convolved at once when not training; bounds the memory of the widest activations."""

STEM_BLOCKS_CPU = 4
"""The same on a CPU: activations of the published width stay under the 32 MB above which glibc
maps fresh pages for every block, and clearing those costs more than smaller blocks do."""

STEM_BLOCKS_OTHER = 16
"""The same where something else convolves: enough for every thread, and little memory."""

FLOAT16_LIMIT = torch.finfo(torch.float16).max - 1000
"""The residual stream is clamped to this in float16, as the reference does."""


def pack_conv_blocks(mels: Sequence[Tensor]) -> tuple[Tensor, list[list[int]]]:
    """Cut log-mels into conv blocks of one second.

    Args:
        mels: [bins, T_i] each; the last block of a clip is filled with 0.0.

    Returns:
        blocks [C, 1, bins, 100], and per clip the tokens that each of its blocks yields.
    """
    blocks, tokens = [], []
    for mel in mels:
        frames = mel.shape[1]
        padded = F.pad(mel, (0, -frames % CONV_BLOCK_FRAMES))
        blocks.append(padded.unflatten(1, (-1, CONV_BLOCK_FRAMES)).transpose(0, 1))
        counts = [CONV_BLOCK_TOKENS] * (frames // CONV_BLOCK_FRAMES)
        if frames % CONV_BLOCK_FRAMES:
            counts.append(audio_tokens(frames % CONV_BLOCK_FRAMES))
        tokens.append(counts)
    return torch.cat(blocks)[:, None], tokens


def make_norm(config: AutConfig) -> nn.Module:
    """The norm of the config's family."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps)


class EncoderLayer(nn.Module):
    """Pre-norm block: windowed self-attention, then a GELU feed-forward, both with biases."""

    def __init__(self, config: AutConfig) -> None:
        super().__init__()
        width = config.d_model
        self.heads = config.heads
        self.dropout = config.dropout
        self.attention_norm = make_norm(config)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn_norm = make_norm(config)
        self.up = nn.Linear(width, config.ffn)
        self.down = nn.Linear(config.ffn, width)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x: [N, d_model], packed clips."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(1)
        attended = windowed_attention(q, k, v, windows).flatten(1)
        x = x + F.dropout(self.out(attended), self.dropout, self.training)
        inner = F.gelu(self.up(self.ffn_norm(x)))
        x = x + F.dropout(self.down(inner), self.dropout, self.training)
        if x.dtype == torch.float16:
            x = x.clamp(-FLOAT16_LIMIT, FLOAT16_LIMIT)
        return x


class AudioEncoder(nn.Module):
    """Log-mels of any number of clips to packed encoder states."""

    def __init__(self, config: AutConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = make_stem(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = make_norm(config)

    def tokens(
        self, mels: Sequence[Tensor], stem: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, list[int]]:
        """The stem's valid tokens, packed [N, d_model], and the number of each clip's.

        Args:
            mels: [bins, T_i] each.
            stem: replaces the own one, if given.
        """
        blocks, counts = pack_conv_blocks(mels)
        blocks = blocks.to(self.stem.conv1.weight.dtype)
        flat = [count for clip in counts for count in clip]
        runs = [(count, len(list(run))) for count, run in groupby(flat)]
        x = torch.cat(list(self._stem_tokens(blocks, runs, stem or self.stem)))
        return x, [sum(clip) for clip in counts]

    def _stem_tokens(
        self,
        blocks: Tensor,
        runs: Sequence[tuple[int, int]],
        stem: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """Valid tokens [n, d_model], run by run of blocks that yield the same number of tokens.

        Args:
            blocks: [C, 1, bins, 100].
            runs: tokens of each block of a run, and how many blocks it has.
            stem: of `tokens`.
        """
        sizes = [size for _, size in runs]
        if self.training:
            # Statistics of batch norms are those of whole blocks, all at once.
            for (count, _), tokens in zip(runs, stem(blocks).split(sizes), strict=True):
                yield tokens[:, :count].flatten(0, 1)
            return
        most = STEM_BLOCKS
        if blocks.device.type == "cpu":
            most = STEM_BLOCKS_CPU if stem is self.stem else STEM_BLOCKS_OTHER
        for (count, _), run in zip(runs, blocks.split(sizes), strict=True):
            # Frames on which no token of a run depends are not convolved.
            for part in run[..., : self.stem.input_frames(count)].split(most):
                yield stem(part)[:, :count].flatten(0, 1)

    def forward(self, mels: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """Encode clips.

        Args:
            mels: [bins, T_i] each, on the model's device.

        Returns:
            normed states [N, d_model] of all clips one after the other, and each clip's length.
        """
        (states,), lengths = self.states(mels, [len(self.layers)])
        return states, lengths

    def states(
        self, mels: Sequence[Tensor], depths: Sequence[int]
    ) -> tuple[list[Tensor], list[int]]:
        """As `forward`, with the normed states after each of some numbers of layers."""
        x, lengths = self.tokens(mels)
        return self.layered(x, lengths, depths), lengths

    def encode_layers(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Normed states [N, d_model] of what `tokens` returned."""
        (states,) = self.layered(tokens, lengths, [len(self.layers)])
        return states

    def layered(self, x: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> list[Tensor]:
        """Normed states after each of some numbers of layers, of what `tokens` returned."""
        x = F.dropout(x, self.config.dropout, self.training)
        windows = Windows.of(lengths, self.config.window_tokens, x.device)
        states = []
        for depth, layer in enumerate(self.layers, 1):
            x = layer(x, windows)
            if depth in depths:
                states.append(self.norm(x))
        return states


class Projector(nn.Module):
    """Encoder states [N, width] to decoder embeddings [N, out]."""

    def __init__(self, width: int, config: ProjectorConfig) -> None:
        super().__init__()
        inner = width if config.hidden is None else config.hidden
        if config.hidden is not None:
            self.up = nn.Linear(width, inner, bias=config.bias)
        self.out = nn.Linear(inner, config.out, bias=config.bias)
        if config.layer_norm:
            self.norm = nn.LayerNorm(config.out)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Linear; or Linear, GELU, Linear; with a LayerNorm behind where configured."""
        if self.config.hidden is not None:
            x = F.gelu(self.up(x))
        x = self.out(x)
        return self.norm(x) if self.config.layer_norm else x
