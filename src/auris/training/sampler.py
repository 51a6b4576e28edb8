"""Rows of joined clips, and batches: functions of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auris.training.data import TrainingClip

LENGTH_JITTER = 0.25
"""Random share by which lengths are changed before sorting, so that batches change."""

SHORTEST_ROW = 8.0
"""Least target length in seconds of a row of clips of different speakers."""


def short_rows(
    clips: Sequence[TrainingClip],
    rng: np.random.Generator,
    shorter: float,
    most: int,
    copies: int,
) -> list[tuple[int, ...]]:
    """Rows of clips of one speaker under `shorter` seconds, as in the dictation of single words.

    A row has up to `most` clips, and each clip is in `copies` rows.

    Returns:
        Indices of the clips of each row.
    """
    result: list[tuple[int, ...]] = []
    by_speaker: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        if clip.speaker and clip.seconds < shorter:
            by_speaker.setdefault(clip.speaker, []).append(i)
    for members in by_speaker.values():
        for _ in range(copies):
            order = rng.permutation(members).tolist()
            while len(order) > 1:
                size = int(rng.integers(2, most + 1))
                result.append(tuple(order[:size]))
                del order[:size]
    return result


def long_rows(
    seconds: Sequence[float], rng: np.random.Generator, share: float, most_seconds: float
) -> list[tuple[int, ...]]:
    """Rows of clips of any speakers, of random lengths up to `most_seconds`.

    Args:
        seconds: length of each clip, with the pause that follows it.
        share: part of the clips that is drawn into rows, 0..1.

    Returns:
        Indices of the clips of each row.
    """
    order = rng.permutation(len(seconds))[: int(share * len(seconds))].tolist()
    result = []
    while order:
        aim = rng.uniform(min(SHORTEST_ROW, most_seconds), most_seconds)
        row = [order.pop()]
        total = seconds[row[0]]
        while order and total + seconds[order[-1]] <= aim:
            row.append(order.pop())
            total += seconds[row[-1]]
        if len(row) > 1:
            result.append(tuple(row))
    return result


def batches(
    seconds: Sequence[float], most_seconds: float, rng: np.random.Generator
) -> list[list[int]]:
    """Group examples of similar length into batches of at most `most_seconds` of audio.

    Every example appears exactly once; one that is longer than a batch gets its own.

    Returns:
        Indices of each batch's examples; the batches are in random order.
    """
    jitter = rng.uniform(1.0 - LENGTH_JITTER, 1.0 + LENGTH_JITTER, len(seconds))
    result = by_length(seconds, most_seconds, jitter)
    return [result[i] for i in rng.permutation(len(result)).tolist()]


def by_length(
    seconds: Sequence[float], most_seconds: float, weights: NDArray[np.float64] | float = 1.0
) -> list[list[int]]:
    """Cut the order of length (times `weights`) into groups of at most `most_seconds`."""
    keys = np.asarray(seconds, dtype=np.float64) * weights
    result: list[list[int]] = []
    total = 0.0
    for i in np.argsort(keys, kind="stable").tolist():
        if not result or total + seconds[i] > most_seconds:
            result.append([])
            total = 0.0
        result[-1].append(i)
        total += seconds[i]
    return result
