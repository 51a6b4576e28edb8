"""Which clips are heard together, and when: a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auris.training.data import Clip

__all__ = ["batches", "by_length", "examples"]

LENGTH_JITTER = 0.25
"""Lengths are compared with this much noise, so that neighbours change from epoch to epoch."""


def examples(
    clips: Sequence[Clip],
    rng: np.random.Generator,
    join_shorter: float,
    join_most: int,
    join_copies: int,
) -> list[tuple[int, ...]]:
    """What an epoch hears: every clip by itself, and short clips of one speaker in a row.

    Args:
        join_shorter: clips under this many seconds are joined, where the speaker is known.
        join_most: most clips in a row.
        join_copies: in how many rows each short clip appears; 0 joins nothing.

    Returns:
        Indices of the clips of each example.
    """
    result: list[tuple[int, ...]] = [(i,) for i in range(len(clips))]
    by_speaker: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        if clip.speaker and clip.seconds < join_shorter:
            by_speaker.setdefault(clip.speaker, []).append(i)
    for members in by_speaker.values():
        for _ in range(join_copies):
            order = rng.permutation(members).tolist()
            while len(order) > 1:
                size = int(rng.integers(2, join_most + 1))
                result.append(tuple(order[:size]))
                del order[:size]
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
    result = by_length(seconds, most_seconds, jitter.tolist())
    return [result[i] for i in rng.permutation(len(result)).tolist()]


def by_length(
    seconds: Sequence[float], most_seconds: float, weights: Sequence[float] | None = None
) -> list[list[int]]:
    """Cut the order of length (times `weights`) into groups of at most `most_seconds`."""
    keys = np.asarray(seconds, dtype=np.float64)
    if weights is not None:
        keys = keys * np.asarray(weights)
    result: list[list[int]] = []
    total = 0.0
    for i in np.argsort(keys, kind="stable").tolist():
        if not result or total + seconds[i] > most_seconds:
            result.append([])
            total = 0.0
        result[-1].append(i)
        total += seconds[i]
    return result
