"""How much of a device training uses: audio seconds a second, and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from auris.config import FRAME_SECONDS
from auris.training.examples import TrainingBatch


def audio_seconds(batch: TrainingBatch) -> float:
    """Audio of the examples of a batch; 0 of one that does not count."""
    return FRAME_SECONDS * sum(mel.shape[1] for mel in batch.mels) if batch.counted else 0.0


class FlopMeter:
    """The arithmetic of training steps, estimated from the forward pass of the first batch.

    A backward pass costs as much as a forward pass for the gradients of activations, and again as
    much for those of the weights, as far as they are trained. What is computed again for gradient
    checkpointing does not count.

    Attributes:
        peak: floating-point operations that a device can do in a second; None where not known.
        a_second: floating-point operations for a second of audio; None before the first batch.
    """

    def __init__(self, model: nn.Module) -> None:
        self.peak: float | None = None
        self.a_second: float | None = None
        weights = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self._passes = 2.0 + trained / max(weights, 1)

    @contextmanager
    def counted(self, batch: TrainingBatch) -> Iterator[None]:
        """Count the forward pass inside the block, if none was counted yet."""
        seconds = audio_seconds(batch)
        if self.peak is None or self.a_second is not None or not seconds:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.a_second = self._passes * counter.get_total_flops() / seconds

    def utilization(self, speed: float) -> float:
        """The share of a device's arithmetic that is used at a speed in audio seconds a second;
        not a number where it is not known."""
        if self.peak is None or self.a_second is None:
            return math.nan
        return self.a_second * speed / self.peak
