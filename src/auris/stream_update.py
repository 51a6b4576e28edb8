"""What a live stream tells after a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auris.live import Cost
from auris.types import Segment

__all__ = ["StreamUpdate"]


@dataclass(frozen=True)
class StreamUpdate:
    """What is known of a piece after a step.

    Attributes:
        piece: counts the pieces of the stream from 0.
        stable: whether the piece is over and its segment will not change; else the next update of
            the piece replaces this one.
        segment: the piece as far as it is heard, with times in seconds from the stream's beginning.
        heard: seconds of the stream that were heard for this.
        cost: what was computed.
    """

    piece: int
    stable: bool
    segment: Segment
    heard: float
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "piece": self.piece,
            "stable": self.stable,
            "heard": round(self.heard, 3),
            **self.segment.to_dict(),
        }
