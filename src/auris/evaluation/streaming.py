"""Live streams against files: equality of the texts, cost early and late, lag of stable text.

Words of a piece are taken to be spread evenly over it. A word's lag is the time from its end to the
step that made it stable, in seconds of audio: what a listener waits beside the computation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from auris.evaluation.loading import resident_gb
from auris.parity import TIE_GAP, Verdict, first_difference
from auris.pipeline import AsrPipeline
from auris.streaming import StreamUpdate
from auris.types import SAMPLE_RATE, Segment

__all__ = ["StreamScore", "compare_segments", "score_stream"]


@dataclass(frozen=True)
class StreamScore:
    """One recording as a stream and as a file.

    Attributes:
        name: the recording.
        seconds: its length.
        steps, pieces: how many there were.
        verdict: whether stream and file say the same: "identical", "tie" or "different".
        early_seconds, late_seconds: median time of a step in the first and in the last fifth.
        ratio: late beside early.
        early_gb, late_gb: resident memory after the first fifth and at the end.
        lag_seconds: median lag of the words; None without words.
        busy: share of the time of the recording that was spent on it.
        frames, encoded, decoded: medians of what a step computed, see `auris.live.Cost`.
    """

    name: str
    seconds: float
    steps: int
    pieces: int
    verdict: Verdict
    early_seconds: float
    late_seconds: float
    ratio: float
    early_gb: float
    late_gb: float
    lag_seconds: float | None
    busy: float
    frames: float
    encoded: float
    decoded: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare_segments(ours: Sequence[Segment], theirs: Sequence[Segment]) -> Verdict:
    """Whether two transcripts of a recording agree under the tie rule.

    Where tokens differ, both are the best of the same scores but for rounding, so the difference of
    their log-probabilities tells how near they are. A text that goes on where the other one stops
    counts as different, since the chance of stopping is not known.
    """
    if [(s.start, s.end) for s in ours] != [(s.start, s.end) for s in theirs]:
        return "different"
    verdict: Verdict = "identical"
    for mine, other in zip(ours, theirs, strict=True):
        place = first_difference(mine.tokens, other.tokens)
        if place is None:
            if (mine.text, mine.language) != (other.text, other.language):
                return "different"
            continue
        if place >= min(len(mine.tokens), len(other.tokens)):
            return "different"
        if abs(mine.logprobs[place] - other.logprobs[place]) >= TIE_GAP:
            return "different"
        verdict = "tie"
    return verdict


def lags(updates: Sequence[StreamUpdate]) -> list[float]:
    """The lag of every word, in seconds."""
    found = []
    for update in updates:
        segment = update.segment
        words = len(segment.text.split()) if update.stable else 0
        for number in range(1, words + 1):
            end = segment.start + (segment.end - segment.start) * number / words
            found.append(update.heard - end)
    return found


def score_stream(
    pipeline: AsrPipeline,
    name: str,
    samples: np.ndarray,
    feed_seconds: Sequence[float],
    **options: Any,
) -> StreamScore:
    """Hear a recording as a stream and as a file.

    Args:
        pipeline: the model.
        name: of the recording.
        samples: float32 [S] at 16 kHz.
        feed_seconds: sizes of what is fed at once, one after the other and again.
        options: of the stream, see `auris.pipeline.StreamOptions`.
    """
    chunk = options.get("chunk_seconds")
    session = pipeline.stream(**options)
    sizes = [max(round(seconds * SAMPLE_RATE), 1) for seconds in feed_seconds]
    updates: list[StreamUpdate] = []
    times: list[float] = []
    early_gb = 0.0
    for place, block in _blocks(samples, sizes):
        began = time.perf_counter()
        fresh = session.feed(block)
        spent = time.perf_counter() - began
        # A feed of several steps counts as that many of equal length.
        steps = sum(not update.stable for update in fresh)
        times += [spent / steps] * steps
        updates += fresh
        if not early_gb and place * 5 >= len(samples):
            early_gb = resident_gb()
    updates += session.finish()
    late_gb = resident_gb()
    segments = [update.segment for update in updates if update.stable]
    given = {key: value for key, value in options.items() if key not in ("rate", "step_seconds")}
    whole = pipeline.transcribe((samples, SAMPLE_RATE), **{**given, "chunk_seconds": chunk or 3.0})
    fifth = max(len(times) // 5, 1)
    early, late = _median(times[:fifth]), _median(times[-fifth:])
    waited = lags(updates)
    drafts = [update.cost for update in updates if not update.stable]
    return StreamScore(
        name=name,
        seconds=len(samples) / SAMPLE_RATE,
        steps=len(drafts),
        pieces=len(segments),
        verdict=compare_segments(segments, whole.segments),
        early_seconds=early,
        late_seconds=late,
        ratio=late / early if early else 1.0,
        early_gb=early_gb,
        late_gb=late_gb,
        lag_seconds=statistics.median(waited) if waited else None,
        busy=sum(times) * SAMPLE_RATE / len(samples),
        frames=_median([cost.frames for cost in drafts]),
        encoded=_median([cost.encoded for cost in drafts]),
        decoded=_median([cost.decoded for cost in drafts]),
    )


def _blocks(samples: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of some sizes, and where each ends."""
    place = number = 0
    while place < len(samples):
        size = sizes[number % len(sizes)]
        block = samples[place : place + size]
        place, number = place + len(block), number + 1
        yield place, block


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
