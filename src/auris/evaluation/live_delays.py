"""How long after its end a word of a live stream settles and becomes final, and how many settled
words the final text revises.

A delay is the time from the end of a word to the step that settled it or made it final, in seconds
of audio; computation comes on top. The end of a word is that of `Word`, where the segment has
words, else the words are assumed to be spread evenly over their segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from auris.streaming.session import StreamUpdate
from auris.text.words import split_words
from auris.types import Segment


@dataclass
class LiveDelays:
    """The delays of the words of streams.

    Attributes:
        settled: of each final word, until it settled; the n-th settled word of a chunk stands for
            its n-th final word.
        final: of each final word, until it was final.
        early: how many words settled before their chunk was over.
        revised: how many of these differ from the final text.
    """

    settled: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    early: int = 0
    revised: int = 0

    def add(self, updates: Iterable[StreamUpdate]) -> None:
        """Add the updates of a stream, all of them, in order."""
        times: list[float] = []
        for update in updates:
            if not update.final:
                words = len(split_words(update.settled))
                times += [update.seconds] * (words - len(times))
                continue
            for number, end in enumerate(word_ends(update.segment)):
                self.final.append(update.seconds - end)
                seconds = times[number] if number < len(times) else update.seconds
                self.settled.append(seconds - end)
            self.early += update.settled_words
            self.revised += update.revised
            times = []

    def extend(self, other: LiveDelays) -> None:
        """Add the delays of other streams."""
        self.settled += other.settled
        self.final += other.final
        self.early += other.early
        self.revised += other.revised

    def score(self) -> DelayScore:
        """The numbers of it."""
        return DelayScore(
            len(self.final),
            self.early,
            self.revised,
            _percentile(self.settled, 50),
            _percentile(self.settled, 95),
            _percentile(self.final, 50),
            _percentile(self.final, 95),
        )


@dataclass(frozen=True)
class DelayScore:
    """Delays of the words of streams.

    Attributes:
        words: final ones.
        early: words that settled before their chunk was over.
        revised: how many of these differ from the final text.
        settled_seconds, settled_95: the median until a word settled, and the 95th percentile; None
            without words.
        final_seconds, final_95: the same until it was final.
    """

    words: int
    early: int
    revised: int
    settled_seconds: float | None
    settled_95: float | None
    final_seconds: float | None
    final_95: float | None

    @property
    def revised_share(self) -> float:
        """Revised words in percent of all final words."""
        return 100 * self.revised / self.words if self.words else 0.0


def word_ends(segment: Segment) -> list[float]:
    """When the words of a segment end, in seconds of the stream."""
    if segment.words:
        return [segment.end if word.end is None else word.end for word in segment.words]
    words = len(segment.text.split())
    length = segment.end - segment.start
    return [segment.start + length * number / words for number in range(1, words + 1)]


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
