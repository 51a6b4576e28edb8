"""CTC paths: the best path, and the best path of a given text.

Sources: Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification" (2006),
section 3.2 (best path decoding) and 4.1 (the trellis); Kürzinger et al., "CTC-segmentation of
large corpora for German end-to-end speech recognition" (2020), section 2 (Viterbi's algorithm on
the trellis, to place a known text in time).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


def frames_needed(ids: Sequence[int]) -> int:
    """Smallest number of frames for `ids`: one each, and a blank between two that are the same."""
    repeats = sum(left == right for left, right in itertools.pairwise(ids))
    return len(ids) + repeats


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


def blank_logprob(logits: Tensor, blank: int) -> float:
    """Natural-log probability of the blank in the frame where it is least likely.

    The empty path cannot be more likely. 0 if there are no frames. Arguments as of `greedy`.
    """
    if len(logits) == 0:
        return 0.0
    return float(logits.float().log_softmax(-1)[:, blank].min())


def forced(logprobs: Tensor, ids: Sequence[int], blank: int) -> CtcPath | None:
    """The most probable path of one clip with exactly the units `ids`.

    Args:
        logprobs: [N, K] natural-log probabilities, one row a frame, of the classes that matter.
        ids: columns of the units in the order of time, without the blank.
        blank: column of the blank.

    Returns:
        The path, or None if there are fewer frames than `frames_needed`.
    """
    if not ids:
        return CtcPath((), (), (), ())
    if len(logprobs) < frames_needed(ids):
        return None
    # States of the trellis: blank, unit, blank, unit, ..., blank.
    labels = np.full(2 * len(ids) + 1, blank)
    labels[1::2] = ids
    scores = logprobs.float().cpu().numpy()
    states = _best_states(scores, labels)
    units = np.arange(1, len(labels), 2)
    first = np.searchsorted(states, units, side="left")
    last = np.searchsorted(states, units, side="right") - 1
    spans = zip(ids, first.tolist(), last.tolist(), strict=True)
    return CtcPath(
        ids=tuple(ids),
        logprobs=tuple(float(scores[start : end + 1, unit].max()) for unit, start, end in spans),
        first=tuple(first.tolist()),
        last=tuple(last.tolist()),
    )


def _best_states(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """State of every frame on the best path through the trellis, [N].

    The totals of every `stride`-th frame are stored, and the moves between them are computed again
    in the backward pass: memory grows with the root of the length, so an hour fits.
    """
    stride = math.isqrt(len(scores)) + 1
    # A blank may be left out between units that differ.
    skips = np.zeros(len(labels), bool)
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    totals = np.full(len(labels), -np.inf)
    totals[:2] = scores[0, labels[:2]]
    stored = []
    for frame in range(1, len(scores)):
        if (frame - 1) % stride == 0:
            stored.append(totals)
        totals, _ = _step(totals, scores[frame, labels], skips)
    states = np.empty(len(scores), np.int64)
    state = len(labels) - 1 - int(totals[-2] > totals[-1])
    for block in range(len(stored) - 1, -1, -1):
        frames = range(1 + block * stride, min(1 + (block + 1) * stride, len(scores)))
        totals, moves = stored[block], []
        for frame in frames:
            totals, move = _step(totals, scores[frame, labels], skips)
            moves.append(move)
        for frame, move in zip(reversed(frames), reversed(moves), strict=True):
            states[frame] = state
            state -= int(move[state])
    states[0] = state
    return states


def _step(
    totals: NDArray[np.float64], scores: NDArray[np.float32], skips: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """One frame further: the best total that ends in each state, and the states it moved by."""
    ways = np.full((3, len(totals)), -np.inf)
    ways[0] = totals
    ways[1, 1:] = totals[:-1]
    ways[2, 2:] = np.where(skips[2:], totals[:-2], -np.inf)
    moves = ways.argmax(0)
    return ways[moves, np.arange(len(totals))] + scores, moves.astype(np.uint8)
