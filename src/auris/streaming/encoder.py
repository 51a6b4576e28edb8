"""The incremental encoder: encodes a growing chunk and computes only what is new or changed.

The stem sees one conv block (one second) at a time and attention sees one window, so a block or a
window is final when its last frame is final. The one exception is a louder sound later in the
chunk: it raises the floor of the features, which changes earlier quiet frames, and everything from
the first changed frame on is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auris.audio.features import StreamingLogMel
from auris.backends.base import Backend
from auris.config import CONV_BLOCK_FRAMES, CONV_BLOCK_TOKENS, AutCtcConfig, QwenAsrConfig
from auris.types import Samples


@dataclass(frozen=True)
class EncoderUpdate:
    """The encoder output of a chunk so far.

    Attributes:
        states: [N, d_model].
        unchanged: how many of them, from the first on, are the same as in the update before.
        frames: feature frames that went through the stem for this update.
        encoded: positions that went through the encoder's layers.
    """

    states: Tensor
    unchanged: int
    frames: int
    encoded: int


class IncrementalEncoder:
    """The features and states of one chunk."""

    def __init__(self, config: AutCtcConfig | QwenAsrConfig) -> None:
        self._features = config.frontend, config.encoder.mel_bins
        self._live = StreamingLogMel(*self._features)
        self._window = config.encoder.window_tokens
        self._mel = torch.empty(config.encoder.mel_bins, 0)
        self._tokens: Tensor | None = None
        self._states: Tensor | None = None

    def forget_stem(self) -> None:
        """Let the stem compute the chunk as a whole, unless an attention window of it is complete.

        Without one the layers compute all of it in any case, and the stem takes a tenth of that.
        Products of few rows may have other last digits, so a whole chunk has those of a file.
        """
        if self._states is None or len(self._states) < self._window:
            self._live = StreamingLogMel(*self._features)
            self._mel, self._tokens, self._states = self._mel[:, :0], None, None

    def add_samples(self, samples: Samples) -> Tensor:
        """Features [bins, T] of the seconds that are new or changed in the chunk so far."""
        mel = self._live.update(samples)
        frame = _first_change(self._mel, mel)
        same = frame == mel.shape[1] == self._mel.shape[1]
        begin = frame if same else frame // CONV_BLOCK_FRAMES * CONV_BLOCK_FRAMES
        self._mel = mel
        if self._tokens is not None and not same:
            self._tokens = self._tokens[: begin // CONV_BLOCK_FRAMES * CONV_BLOCK_TOKENS]
        return mel[:, begin:]

    def add_stem_output(self, fresh: Tensor | None) -> tuple[Tensor, int]:
        """Append new output of the stem; returns the output [N, d_model] of windows that are new or
        changed (N may be 0), and the number of positions before them."""
        assert fresh is not None or self._tokens is not None
        known = 0 if self._tokens is None else len(self._tokens)
        parts = [part for part in (self._tokens, fresh) if part is not None]
        self._tokens = parts[0] if len(parts) == 1 else torch.cat(parts)
        total = len(self._tokens)
        encoded = 0 if self._states is None else len(self._states)
        if fresh is None and encoded == total:
            return self._tokens[total:], total
        unchanged = min(known, encoded) // self._window * self._window
        return self._tokens[unchanged:], unchanged

    def add_states(self, fresh: Tensor | None, unchanged: int) -> Tensor:
        """Put new states behind the first `unchanged` ones; returns all states [N, d_model]."""
        parts = [part for part in (self._states, fresh) if part is not None]
        if self._states is not None:
            parts[0] = self._states[:unchanged]
        self._states = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._states


def _first_change(before: Tensor, after: Tensor) -> int:
    """The first frame that differs; the length of the shorter one if none does."""
    common = min(before.shape[1], after.shape[1])
    differ = (before[:, :common] != after[:, :common]).any(0)
    return int(differ.int().argmax()) if bool(differ.any()) else common


def encode_updates(
    backend: Backend, encoders: Sequence[IncrementalEncoder], samples: Sequence[Samples]
) -> list[EncoderUpdate]:
    """Encode growing chunks together; samples are those of each chunk so far."""
    mels = [encoder.add_samples(part) for encoder, part in zip(encoders, samples, strict=True)]
    tokens = _of_nonempty(backend.encode_stem, mels, [mel.shape[1] for mel in mels])
    windows = [
        encoder.add_stem_output(fresh) for encoder, fresh in zip(encoders, tokens, strict=True)
    ]
    counts = [len(tokens) for tokens, _ in windows]
    states = _of_nonempty(backend.encode_layers, [tokens for tokens, _ in windows], counts)
    return [
        EncoderUpdate(encoder.add_states(fresh, unchanged), unchanged, mel.shape[1], count)
        for encoder, mel, fresh, (_, unchanged), count in zip(
            encoders, mels, states, windows, counts, strict=True
        )
    ]


def _of_nonempty(
    compute: Callable[[Sequence[Tensor]], list[Tensor]],
    inputs: Sequence[Tensor],
    sizes: Sequence[int],
) -> list[Tensor | None]:
    """Results of the inputs that are not empty, computed together; None for empty inputs."""
    nonempty = [item for item, size in zip(inputs, sizes, strict=True) if size]
    results = iter(compute(nonempty) if nonempty else ())
    return [next(results) if size else None for size in sizes]
