"""Feeds streams in tests, and compares them with files under the tie rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np

from auris.evaluation.streaming import compare_segments
from auris.streaming.session import StreamSession, StreamUpdate
from auris.types import Segment


def blocks(samples: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The samples in blocks of the given sizes, repeated."""
    place = 0
    for size in cycle(sizes):
        if place >= len(samples):
            return
        yield samples[place : place + size]
        place += size


def updates_of(
    session: StreamSession, samples: np.ndarray, sizes: Sequence[int] = (8000,)
) -> list[StreamUpdate]:
    """All updates of a stream that is fed the samples in blocks of the given sizes."""
    updates = []
    for block in blocks(samples, sizes):
        updates += session.feed(block)
    return updates + session.finish()


def stable(updates: Sequence[StreamUpdate]) -> list[Segment]:
    """The settled segments."""
    return [update.segment for update in updates if update.final]


def same(ours: Sequence[Segment], theirs: Sequence[Segment], what: str) -> None:
    """Fail unless the segments agree under the tie rule; ties are printed."""
    verdict = compare_segments(ours, theirs)
    if verdict == "tie":
        print(f"tie in {what}")
        return
    said = [segment.tokens for segment in ours], [segment.tokens for segment in theirs]
    assert verdict == "identical", f"{what}: {said}"
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.finish_reason == other.finish_reason, what
        assert np.allclose(mine.logprobs, other.logprobs, atol=2e-4), what
