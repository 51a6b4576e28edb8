"""Stretches of speech to speakers by their embeddings: agglomerative clustering, and where the
space of the embeddings is known, a hidden Markov model that begins with its groups.

The similarity of two groups is the mean of the cosine similarities of their members (average
linkage). The two most similar groups are joined until no two are more similar than a threshold, or
until a requested number is left. The embeddings of long recordings are first joined inside blocks
of a limited size, so the time grows linearly with the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auris.diarization.voice_model import VoiceSpace, inferred
from auris.diarization.windows import UNIT_SOUND_FRAMES, VoiceWindow

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK_ITEMS = 1000
"""Embeddings that are compared with each other at once."""

BLOCK_MARGIN = 0.15
"""Groups of a block are joined while they are so much more similar than the threshold."""

BLOCK_GROUPS = 100
"""Largest number of groups of a block."""

DIVIDING_STEP = 0.1
"""The threshold rises by this until there are as many groups as requested."""

NOBODY = -1
"""The speaker of a stretch without an embedding."""

UNIT_MARGIN = 0.09
"""Groups of units are joined while they are so much more similar than the threshold."""

LEAST_UNIT_FRAMES = 60
"""Embeddings of fewer frames are not joined to groups."""

LOWER_COSTS = 6
"""How often the cost of a speaker is halved to find as many as requested."""

ROUNDS = 3
"""How often voices are given to the most similar speaker and the speakers are computed anew."""


@dataclass(frozen=True)
class ClusterSettings:
    """Limits that belong to the embeddings of one encoder.

    Attributes:
        threshold: groups that are less similar are two speakers.
        reliable_frames: embeddings of fewer frames do not make speakers; they are given to one.
        least_frames: a speaker with fewer frames of speech, each counted once although windows
            overlap, is joined to the most similar one.
        least_share: so is one with less than this share of the speech, where that is shorter.
        space: where the embeddings lie; None for stretches that are no units.
    """

    threshold: float
    reliable_frames: int = 100
    least_frames: int = 400
    least_share: float = 0.1
    space: VoiceSpace | None = None


def clustered(
    windows: Sequence[VoiceWindow],
    settings: ClusterSettings,
    least: int = 1,
    most: int | None = None,
) -> tuple[list[Ints], Floats]:
    """The speaker of each stretch of each window, and the embeddings of the speakers.

    Args:
        least, most: limits of the number of speakers; there are fewer if there are fewer stretches.
    """
    rows = [
        (number, voice)
        for number, window in enumerate(windows)
        for voice in np.flatnonzero(window.frames).tolist()
    ]
    if not rows:
        nobody = [np.full(len(window.frames), NOBODY) for window in windows]
        return nobody, np.zeros((0, 0), np.float32)
    if settings.space is not None:
        return _modelled(windows, rows, settings, settings.space, least, most)
    items = np.stack([windows[number].embeddings[voice] for number, voice in rows])
    frames = np.array([windows[number].frames[voice] for number, voice in rows])
    reliable = frames >= settings.reliable_frames
    if not reliable.any():
        reliable = frames >= frames.max()
    chosen = np.flatnonzero(reliable)
    groups = _at_least(items[chosen], settings.threshold, least)
    speech = (frames / _coverage(windows, rows)).astype(np.float32)[chosen]
    groups = _limited(items[chosen], groups, speech, settings, least, most)
    centers = _centers(items[chosen], groups)
    labels: list[Ints] = []
    for _ in range(ROUNDS):
        labels = [assigned(window, centers) for window in windows]
        flat = np.array([labels[number][voice] for number, voice in rows])
        present = np.unique(flat[chosen])
        centers = np.stack([_center(items[chosen][flat[chosen] == group]) for group in present])
    return [assigned(window, centers) for window in windows], centers


def _modelled(
    windows: Sequence[VoiceWindow],
    rows: Sequence[tuple[int, int]],
    settings: ClusterSettings,
    space: VoiceSpace,
    least: int,
    most: int | None,
) -> tuple[list[Ints], Floats]:
    """As `clustered`, where stretches are units.

    Args:
        rows: numbers of window and stretch of each unit with an embedding of its own.
    """
    rows = sorted(rows, key=lambda row: _first_frame(windows[row[0]], row[1]))
    items = np.stack([windows[number].embeddings[voice] for number, voice in rows])
    used = np.array([windows[number].frames[voice] for number, voice in rows])
    spoken = np.array([windows[number].active[:, voice].sum() for number, voice in rows])
    speech = (spoken / _coverage(windows, rows)).astype(np.float32)
    weights = np.minimum(used / UNIT_SOUND_FRAMES, 1.0)
    points, variances = space.points(items), space.variances
    groups, share = _first_groups(items, used, settings.threshold + UNIT_MARGIN, least), 1.0
    for _ in range(LOWER_COSTS):
        speakers = _renumbered(inferred(points, weights, variances, groups, share).argmax(1))
        amounts = np.bincount(speakers, weights=speech).astype(np.float64)
        if _large(amounts, settings) >= least:
            break
        share /= 2
    if len(np.unique(speakers)) < least:
        speakers = groups
    limited = _limited(items, speakers, speech, settings, least, most)
    if limited.max() < speakers.max():
        again = inferred(points, weights, variances, limited, share).argmax(1)
        limited = again if len(np.unique(again)) >= least else limited
    limited = _renumbered(limited)
    centers = _centers(items, limited)
    labels = [assigned(window, centers) for window in windows]
    for (number, voice), group in zip(rows, limited.tolist(), strict=True):
        labels[number][voice] = group
    return labels, centers


def _first_frame(window: VoiceWindow, stretch: int) -> int:
    return window.start + int(window.active[:, stretch].argmax())


def _first_groups(items: Floats, used: Ints, threshold: float, least: int) -> Ints:
    """Groups of units to begin with, as many as requested if possible.

    Args:
        used: frames of each embedding; those of a few are given the group of the unit before.
    """
    sure = used >= min(LEAST_UNIT_FRAMES, used.max())
    groups = _at_least(items[sure], threshold, least)
    return np.asarray(groups[np.maximum(np.cumsum(sure) - 1, 0)], np.int64)


def _coverage(windows: Sequence[VoiceWindow], rows: Sequence[tuple[int, int]]) -> Floats:
    """How many windows cover the middle of each stretch."""
    starts = np.array([window.start for window in windows])
    ends = np.sort([window.start + len(window.active) for window in windows])
    spans = [np.flatnonzero(windows[number].active[:, row])[[0, -1]] for number, row in rows]
    first = np.array([windows[number].start for number, _ in rows])
    middles = first + np.array(spans).mean(1)
    begun = np.searchsorted(np.sort(starts), middles, side="right")
    return np.asarray(begun - np.searchsorted(ends, middles, side="right"), np.float32)


def _at_least(items: Floats, threshold: float, least: int) -> Ints:
    """The group of each embedding; the threshold rises until there are as many as requested."""
    ones = np.ones(len(items), np.int64)
    groups = _grouped(items, ones, threshold)
    while int(groups.max()) + 1 < least and threshold < 1:
        threshold += DIVIDING_STEP
        groups = _grouped(items, ones, threshold)
    return groups


def _grouped(items: Floats, sizes: Ints, threshold: float) -> Ints:
    """The group of each item, which is the mean of so many embeddings."""
    if len(items) <= BLOCK_ITEMS:
        return joined(items @ items.T, sizes, threshold)
    groups = np.zeros(len(items), np.int64)
    count = 0
    for first in range(0, len(items), BLOCK_ITEMS):
        part = slice(first, first + BLOCK_ITEMS)
        inside = items[part] @ items[part].T
        tight = threshold + BLOCK_MARGIN
        groups[part] = count + joined(inside, sizes[part], tight, most=BLOCK_GROUPS)
        count = int(groups[part].max()) + 1
    sums = np.zeros((count, items.shape[1]), np.float32)
    np.add.at(sums, groups, items * sizes[:, None].astype(np.float32))
    totals = np.bincount(groups, weights=sizes).astype(np.int64)
    means = (sums / totals[:, None]).astype(np.float32)
    return _grouped(means, totals, threshold)[groups]


def joined(
    similarities: Floats, sizes: Ints, threshold: float, least: int = 1, most: int | None = None
) -> Ints:
    """Groups of items that are joined while they are more similar than the threshold.

    Args:
        similarities: float32 [n, n], symmetric; it is changed.
        sizes: number of members of each item.
        threshold: groups that are less similar stay apart.
        least: number of groups at which joining ends.
        most: joining goes on below the threshold until there are so few groups; None for any.

    Returns:
        the group of each item, numbered in the order of their first items.
    """
    count = len(similarities)
    groups = np.arange(count)
    weights = sizes.astype(np.float64)
    np.fill_diagonal(similarities, -np.inf)
    best = similarities.argmax(1)
    values = similarities[np.arange(count), best]
    for step in range(count - least):
        first = int(values.argmax())
        if values[first] < threshold and (most is None or count - step <= most):
            break
        first, second = sorted((first, int(best[first])))
        total = weights[first] + weights[second]
        row = weights[first] * similarities[first] + weights[second] * similarities[second]
        row = (row / total).astype(np.float32)
        similarities[first], similarities[:, first] = row, row
        similarities[second], similarities[:, second] = -np.inf, -np.inf
        weights[first] = total
        groups[groups == second] = first
        stale = np.flatnonzero((best == first) | (best == second))
        better = np.flatnonzero(row > values)
        best[better], values[better] = first, row[better]
        for index in (first, second, *stale):
            best[index] = similarities[index].argmax()
            values[index] = similarities[index, best[index]]
    return _renumbered(groups)


def _renumbered(groups: Ints) -> Ints:
    """Groups numbered in the order of their first items."""
    _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
    order = np.empty(len(firsts), np.int64)
    order[np.argsort(firsts)] = np.arange(len(firsts))
    return order[numbers]


def _limited(
    items: Floats,
    groups: Ints,
    speech: Floats,
    settings: ClusterSettings,
    least: int,
    most: int | None,
) -> Ints:
    """Groups without small ones, and within the limits of their number."""
    amounts = np.bincount(groups, weights=speech).astype(np.float64)
    order = np.argsort(-amounts, kind="stable")
    large = _large(amounts, settings)
    count = max(large, least, 1)
    count = min(count, len(amounts)) if most is None else min(count, len(amounts), most)
    if most is not None and large > most:
        centers = _means(items, groups)
        sizes = np.bincount(groups)
        speakers = order[:large]
        merged = joined(centers[speakers] @ centers[speakers].T, sizes[speakers], -np.inf, most)
    else:
        speakers, merged = order[:count], np.arange(count)
    centers = _centers(items, groups)[speakers]
    nearest = (_centers(items, groups) @ centers.T).argmax(1)
    target = np.empty(len(amounts), np.int64)
    target[:] = merged[nearest]
    target[speakers] = merged
    return _renumbered(target[groups])


def _large(amounts: NDArray[np.float64], settings: ClusterSettings) -> int:
    """How many groups have enough frames of speech for a speaker of their own."""
    enough = min(settings.least_frames, settings.least_share * float(amounts.sum()))
    return int((amounts >= enough).sum())


def _means(items: Floats, groups: Ints) -> Floats:
    return np.stack([items[groups == group].mean(0) for group in range(int(groups.max()) + 1)])


def _centers(items: Floats, groups: Ints) -> Floats:
    return np.stack([_center(items[groups == group]) for group in range(int(groups.max()) + 1)])


def _center(items: Floats) -> Floats:
    mean = items.mean(0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def assigned(window: VoiceWindow, centers: Floats) -> Ints:
    """The most similar speaker of each stretch of a window."""
    if not len(window.embeddings) or not len(centers):
        return np.full(len(window.embeddings), NOBODY)
    silent = ~window.embeddings.any(1)
    return np.where(silent, NOBODY, (window.embeddings @ centers.T).argmax(1)).astype(np.int64)
