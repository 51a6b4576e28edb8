"""The encoder on a piece that is still being heard: what cannot change any more is kept.

Convolutions see one second at a time and attention one window, so a second, and a window, is
computed for the last time when its last frame is final. Only a louder sound later in the piece
lifts the floor of the features and changes what was quiet; then everything from the first changed
frame on is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auris.audio.features import StreamingLogMel
from auris.backends.base import Backend
from auris.config import CHUNK_FRAMES, CHUNK_TOKENS, AutCtcConfig, QwenAsrConfig
from auris.types import Samples

__all__ = ["EncoderUpdate", "IncrementalEncoder", "encode_updates"]


@dataclass(frozen=True)
class EncoderUpdate:
    """The states of a piece so far.

    Attributes:
        states: [N, d_model].
        kept: how many of them, from the first on, are those of the call before.
        frames: mel frames that were convolved for this.
        contextualized: tokens that went through the encoder's layers.
    """

    states: Tensor
    kept: int
    frames: int
    contextualized: int


class IncrementalEncoder:
    """What is kept of one piece.

    Args:
        config: of the model.
    """

    def __init__(self, config: AutCtcConfig | QwenAsrConfig) -> None:
        self._live = StreamingLogMel(config.frontend, config.encoder.mel_bins)
        self._window = config.encoder.window_tokens
        self._mel = torch.empty(config.encoder.mel_bins, 0)
        self._tokens: Tensor | None = None
        self._states: Tensor | None = None

    def listen(self, samples: Samples) -> Tensor:
        """Features [bins, T] of the seconds that are new or changed, maybe T = 0.

        Args:
            samples: float32 [S], the piece so far, as of `StreamingLogMel.hear`.
        """
        mel = self._live.hear(samples)
        frame = _first_change(self._mel, mel)
        same = frame == mel.shape[1] == self._mel.shape[1]
        second = frame if same else frame // CHUNK_FRAMES * CHUNK_FRAMES
        self._mel = mel
        if self._tokens is not None and not same:
            self._tokens = self._tokens[: second // CHUNK_FRAMES * CHUNK_TOKENS]
        return mel[:, second:]

    def place(self, fresh: Tensor | None) -> tuple[Tensor, int]:
        """Put new tokens behind those that are kept.

        Returns:
            the tokens [N, d_model] of the windows that are new or changed, maybe N = 0, and the
            number of those before them.
        """
        assert fresh is not None or self._tokens is not None
        known = 0 if self._tokens is None else len(self._tokens)
        parts = [part for part in (self._tokens, fresh) if part is not None]
        self._tokens = parts[0] if len(parts) == 1 else torch.cat(parts)
        total = len(self._tokens)
        held = 0 if self._states is None else len(self._states)
        if fresh is None and held == total:
            return self._tokens[total:], total
        kept = min(known, held) // self._window * self._window
        return self._tokens[kept:], kept

    def keep(self, fresh: Tensor | None, kept: int) -> Tensor:
        """Put new states behind the first `kept`; returns all, [N, d_model]."""
        parts = [part for part in (self._states, fresh) if part is not None]
        if self._states is not None:
            parts[0] = self._states[:kept]
        self._states = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._states


def _first_change(before: Tensor, after: Tensor) -> int:
    """The first frame that is not in both; the length of the shorter one where all agree."""
    common = min(before.shape[1], after.shape[1])
    differ = (before[:, :common] != after[:, :common]).any(0)
    return int(differ.int().argmax()) if bool(differ.any()) else common


def encode_updates(
    backend: Backend, pieces: Sequence[IncrementalEncoder], samples: Sequence[Samples]
) -> list[EncoderUpdate]:
    """Encode pieces as far as they are heard, together.

    Args:
        backend: runs the model.
        pieces: what is kept of each.
        samples: of each, from its beginning.
    """
    mels = [piece.listen(part) for piece, part in zip(pieces, samples, strict=True)]
    tokens = _where_any(backend.convolve, mels, [mel.shape[1] for mel in mels])
    opened = [piece.place(fresh) for piece, fresh in zip(pieces, tokens, strict=True)]
    counts = [len(tokens) for tokens, _ in opened]
    states = _where_any(backend.contextualize, [tokens for tokens, _ in opened], counts)
    return [
        EncoderUpdate(piece.keep(fresh, kept), kept, mel.shape[1], count)
        for piece, mel, fresh, (_, kept), count in zip(
            pieces, mels, states, opened, counts, strict=True
        )
    ]


def _where_any(
    compute: Callable[[Sequence[Tensor]], list[Tensor]],
    inputs: Sequence[Tensor],
    sizes: Sequence[int],
) -> list[Tensor | None]:
    """Results of the inputs that are not empty, computed together; None for the others."""
    full = [item for item, size in zip(inputs, sizes, strict=True) if size]
    results = iter(compute(full) if full else ())
    return [next(results) if size else None for size in sizes]
