"""The CTC loss of packed clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

__all__ = ["ctc_loss"]


def ctc_loss(
    logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Negative log-likelihood per unit, in float32 whatever the logits' type.

    Args:
        logits: [N, units + 1], clips one after the other.
        lengths: frames of each clip, N in all.
        targets: unit ids of each clip; none may be empty.
        blank: class index of the blank.

    Returns:
        A scalar: the sum over the clips divided by the number of their units, so that long and
        short clips weigh alike by unit. Infinite when a target does not fit its frames.
    """
    # In bfloat16 a log-probability of -8 already has steps of 0.06, so the softmax is float32 too.
    rows = torch.split(logits.float().log_softmax(-1), list(lengths))
    counts = torch.tensor([len(target) for target in targets])
    joined = torch.tensor([unit for target in targets for unit in target])
    total = F.ctc_loss(
        pad_sequence(list(rows)),
        joined.to(logits.device),
        torch.tensor(lengths),
        counts,
        blank=blank,
        reduction="sum",
    )
    return total / counts.sum()
