"""Losses as sums and counts, so that processes can share a batch; CTC of packed clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

__all__ = ["Losses", "ctc_loss"]


@dataclass(frozen=True)
class Losses:
    """What a process contributes to the loss of a batch.

    Attributes:
        sums: float32 [K], each kind's loss summed over what it counts, times its weight.
        counts: float32 [K], units or tokens that each kind counts.

    The loss is the sum over the kinds of sums / counts, both first added over all processes, so
    that it does not depend on how a batch is shared out.
    """

    sums: Tensor
    counts: Tensor

    @property
    def total(self) -> Tensor:
        """The loss of these sums over these counts."""
        return (self.sums / self.counts.clamp(min=1.0)).sum()


def ctc_loss(
    logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Negative log-likelihood, in float32 whatever the logits' type.

    Args:
        logits: [N, units + 1], clips one after the other.
        lengths: frames of each clip, N in all.
        targets: unit ids of each clip; an empty one asks for blanks alone.
        blank: class index of the blank.

    Returns:
        A scalar: the sum over the clips. Infinite when a target does not fit its frames.
    """
    # In bfloat16 a log-probability of -8 already has steps of 0.06, so the softmax is float32 too.
    rows = torch.split(logits.float().log_softmax(-1), list(lengths))
    counts = torch.tensor([len(target) for target in targets])
    joined = torch.tensor([unit for target in targets for unit in target], dtype=torch.long)
    total: Tensor = F.ctc_loss(
        pad_sequence(list(rows)),
        joined.to(logits.device),
        torch.tensor(lengths),
        counts,
        blank=blank,
        reduction="sum",
    )
    return total
