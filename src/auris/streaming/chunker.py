"""From samples as they come to what is to be recognized: pieces, and steps inside of them."""

from __future__ import annotations

import numbers
from collections import deque
from dataclasses import dataclass

import numpy as np

from auris.audio.resample import Resampler
from auris.audio.segmentation import Cutter
from auris.errors import UsageError
from auris.types import SAMPLE_RATE, Chunk, Samples

__all__ = ["PendingChunk", "StreamChunker"]

SHORTEST_STEP = 0.02
"""Shortest time between steps that can be asked for."""


@dataclass(frozen=True)
class PendingChunk:
    """What is to be recognized.

    Attributes:
        chunk: a piece as far as it is heard, or silence that is left out.
        ends: whether that is all of it.
    """

    chunk: Chunk
    ends: bool


class StreamChunker:
    """Cuts a stream at fixed places, whatever the sizes in which it comes.

    One thread may `accept` and `end` while another one asks for what is next.

    Args:
        rate: samples per second of what comes.
        cutter: makes pieces of it.
        step_seconds: time between steps.
        skip_late: leave out steps inside of a piece behind which another one is already due.

    Raises:
        InvalidSamples: the rate is impossible.
        UsageError: the time between steps is.
    """

    def __init__(
        self, rate: int, cutter: Cutter, step_seconds: float, skip_late: bool = False
    ) -> None:
        self._resampler = Resampler(rate)
        self._cutter = cutter
        self._cut_off = False  # Whether the cutter has heard that there is no more.
        self._step = _step_samples(step_seconds)
        self._skip_late = skip_late
        self._inbox: deque[Samples] = deque()  # Of the feeding thread, not yet taken up.
        self._waiting: deque[Samples] = deque()
        self._queued = 0  # Samples in `_waiting`.
        self._certain: deque[Chunk] = deque()
        self._step_due = False
        self.fed = 0
        """Samples that came, at their own rate."""
        self.heard = 0
        """Samples at 16 kHz that the cutter has."""
        self.ending = False
        """Whether no more comes."""

    @property
    def rate(self) -> int:
        """Samples per second of what comes."""
        return self._resampler.rate

    @property
    def done(self) -> bool:
        """Whether nothing comes any more and everything was given."""
        return self._cut_off and not self._certain

    @property
    def behind(self) -> bool:
        """Whether something is due already."""
        return self.ending or bool(self._certain) or self._unheard() >= self._step

    def accept(self, block: Samples) -> None:
        """Take samples in, float32 [n]."""
        self.fed += len(block)
        if len(block):
            self._inbox.append(self._resampler.push(block[None])[0])

    def end(self) -> None:
        """No more comes."""
        if not self.ending:
            self._inbox.append(self._resampler.finish()[0])
            self.ending = True

    def next(self) -> PendingChunk | None:
        """What is to be recognized next; None until more has come.

        A chunk that was left out comes as one that ends.
        """
        while True:
            if self._certain:
                return PendingChunk(self._certain.popleft(), ends=True)
            if self._step_due:
                self._step_due = False
                if self._skip_late and self._unheard() >= self._step:
                    continue
                under_way = self._cutter.unfixed()
                if under_way is not None:
                    return PendingChunk(under_way, ends=False)
            if not self._hear_step():
                return None

    def _unheard(self) -> int:
        """Samples at 16 kHz that came and the cutter does not have."""
        # A copy, for the feeding thread may append meanwhile.
        return self._queued + sum(map(len, tuple(self._inbox)))

    def _hear_step(self) -> bool:
        """Give the cutter samples up to the next step; whether there was anything to give."""
        ending = self.ending  # Read before the inbox: what came before the end is in it.
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
            self._queued += len(self._waiting[-1])
        wanted = self._step - self.heard % self._step
        if self._queued < wanted and not ending:
            return False
        if self._queued:
            samples = self._next_samples(wanted)
            self.heard += len(samples)
            self._certain.extend(self._cutter.feed(samples))
            self._step_due = self.heard % self._step == 0
            return True
        if self._cut_off:
            return False
        self._cut_off = True
        self._certain.extend(self._cutter.finish())
        return True

    def _next_samples(self, most: int) -> Samples:
        """The next samples that wait, up to `most`."""
        parts = []
        while most and self._waiting:
            block = self._waiting.popleft()
            parts.append(block[:most])
            if len(block) > most:
                self._waiting.appendleft(block[most:])
            most -= len(parts[-1])
        samples = np.concatenate(parts)
        self._queued -= len(samples)
        return samples


def _step_samples(step_seconds: object) -> int:
    real = isinstance(step_seconds, numbers.Real)
    if not real or not SHORTEST_STEP <= float(step_seconds) <= 60.0:  # type: ignore[arg-type]
        raise UsageError(
            f"StreamChunker have to be {SHORTEST_STEP} to 60 seconds apart",
            f"{step_seconds!r} was asked",
            "choose --step-seconds in this range",
        )
    return round(float(step_seconds) * SAMPLE_RATE)  # type: ignore[arg-type]
