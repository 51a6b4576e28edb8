"""Greedy CTC: the best class of every frame, repeats merged, blanks dropped.

Source: Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification" (2006),
section 3.2, best path decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CtcPath", "greedy"]


@dataclass(frozen=True)
class CtcPath:
    """The units of one best path, in the order of time.

    Attributes:
        ids: class of each unit, never the blank.
        logprobs: natural-log probability of each unit, at the frame where it is most likely.
        first, last: first and last frame of each unit, both counted from 0 and inclusive.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


def greedy(logits: Tensor, blank: int) -> CtcPath:
    """Best path of one clip.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type; N may be 0.
        blank: class index of the blank.

    Returns:
        Its units; the same unit twice with a blank between counts twice.
    """
    best, classes = logits.float().log_softmax(-1).max(-1)
    if len(classes) == 0:
        return CtcPath((), (), (), ())
    runs, lengths = torch.unique_consecutive(classes, return_counts=True)
    ends = lengths.cumsum(0)
    rows = zip(runs.tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True)
    units = [(unit, start, end) for unit, start, end in rows if unit != blank]
    scores = best.tolist()
    return CtcPath(
        ids=tuple(unit for unit, _, _ in units),
        logprobs=tuple(max(scores[start:end]) for _, start, end in units),
        first=tuple(start for _, start, _ in units),
        last=tuple(end - 1 for _, _, end in units),
    )
