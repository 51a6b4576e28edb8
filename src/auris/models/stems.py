"""The convolutions in front of the encoder: conv blocks of one second in, 13 tokens each out.

Two stems that a caller cannot tell apart. "conv2d" is the published one: it convolves over time
and frequency and projects what is left of the frequencies. "conv1d" convolves over time only,
with the mel bins as channels (as in Whisper, Radford et al., 2022): at AuT-Tiny's width a ninth
of the multiplications.

Batch norms (Ioffe & Szegedy, 2015) are for training. Their statistics include the zeros that
fill a clip's last conv block, which is acceptable: in inference they are constants, so a clip's
states still depend on the clip alone. `Stem.fold` moves them into the convolutions, and files hold
folded stems only.

Source of conv2d: the `qwen3_asr` model of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

from auris.config import CONV_BLOCK_FRAMES, AutConfig
from auris.models.layers import sinusoids

CHANNELS_1D = (64, 128)
"""Output channels of the first two convolutions over time; the third has the encoder's width."""


class Stem(nn.Module):
    """What both stems share: three convolutions that halve the time, each followed by GELU.

    Args:
        convs: of stride 2, with kernels of 2 * padding + 1, so that lengths halve upwards.
        norm: makes the norm behind a convolution from its number of channels.
    """

    def __init__(
        self, convs: Sequence[nn.Conv1d | nn.Conv2d], norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = convs
        self.norms = nn.ModuleList(norm(conv.out_channels) for conv in convs)

    def convolve(self, x: Tensor) -> Tensor:
        """[C, ..., 100] -> [C, channels, ..., 13]."""
        for conv, norm in zip(self._convs(), self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        return x

    def input_frames(self, tokens: int) -> int:
        """Frames of a conv block on which its first `tokens` tokens depend."""
        last = tokens - 1
        for conv in reversed(self._convs()):
            last = 2 * last + int(conv.padding[0])
        return min(last + 1, CONV_BLOCK_FRAMES)

    def fold(self) -> None:
        """Give the running statistics of the batch norms to the convolutions, in place."""
        for index, (conv, norm) in enumerate(zip(self._convs(), self.norms, strict=True)):
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                mean, variance = norm.running_mean, norm.running_var
                assert mean is not None  # Batch norms of ours always track them.
                assert variance is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
                )
                self.norms[index] = nn.Identity()

    def _convs(self) -> tuple[nn.Conv1d | nn.Conv2d, ...]:
        return self.conv1, self.conv2, self.conv3


class PaddedConv2d(nn.Conv2d):
    """A convolution whose output has at least two columns, of which those asked for are returned.

    With AMX oneDNN computes an output of one column in bfloat16 by kernels that read uninitialized
    memory (PyTorch 2.13): some of the results are NaN. Zeros at the right, which the padding adds
    anyway, change no sum.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[C, channels, height, width] -> [C, channels', half of the height, half of the width]."""
        missing = 3 - input.shape[-1]
        if missing <= 0:
            return super().forward(input)
        return super().forward(F.pad(input, (0, missing)))[..., :1]


class Stem2d(Stem):
    """[C, 1, bins, 100] -> [C, 13, d_model]: convolutions over both axes, then a projection.

    Narrower blocks yield fewer tokens, one for every eight frames begun.
    """

    def __init__(self, config: AutConfig) -> None:
        channels = config.conv_channels
        convs = [PaddedConv2d(n, channels, 3, stride=2, padding=1) for n in (1, channels, channels)]
        super().__init__(convs, nn.BatchNorm2d if config.batch_norm else nn.Identity)
        self.out = nn.Linear(channels * config.conv_height, config.d_model, bias=False)

    def forward(self, blocks: Tensor) -> Tensor:
        """Convolve conv blocks; the caller knows which tokens are valid."""
        # Channel-major over (channel, frequency), one row per time step. Rows that lie apart in
        # memory make the product many times slower in bfloat16 than the copy.
        rows = self.convolve(blocks).permute(0, 3, 1, 2).flatten(2).contiguous()
        return positioned(self.out(rows))


class Stem1d(Stem):
    """[C, 1, bins, 100] -> [C, 13, d_model]: convolutions over time, the bins as channels."""

    def __init__(self, config: AutConfig) -> None:
        widths = (config.mel_bins, *CHANNELS_1D, config.d_model)
        convs = [
            nn.Conv1d(before, after, 5, stride=2, padding=2) for before, after in pairwise(widths)
        ]
        super().__init__(convs, nn.BatchNorm1d if config.batch_norm else nn.Identity)

    def forward(self, blocks: Tensor) -> Tensor:
        """Convolve conv blocks."""
        return positioned(self.convolve(blocks.squeeze(1)).transpose(1, 2))


def positioned(tokens: Tensor) -> Tensor:
    """Tokens [C, <= 13, d_model] with positions that begin anew in every conv block."""
    positions = sinusoids(tokens.shape[1], tokens.shape[2], tokens.device)
    return tokens + positions.to(tokens.dtype)


def make_stem(config: AutConfig) -> Stem:
    """The stem of the config."""
    return Stem1d(config) if config.stem == "conv1d" else Stem2d(config)
