"""Cuts a stream into chunks and steps inside of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from auris.audio.resample import Resampler
from auris.audio.segmentation import Cutter
from auris.recognition.load import check_number
from auris.types import SAMPLE_RATE, Chunk, Samples

SHORTEST_STEP, LONGEST_STEP = 0.02, 60.0
"""Possible times between steps, in seconds."""

CUT_STEP = SAMPLE_RATE // 10
"""Samples between the positions at which a chunk may be over; at a step it may, too."""


@dataclass(frozen=True)
class PendingChunk:
    """A chunk to recognize, complete if it `ends`, or silence that is skipped."""

    chunk: Chunk
    ends: bool


class StreamChunker:
    """Cuts a stream at positions that do not depend on the sizes in which samples arrive.

    One thread may call `accept` and `end` while another one calls `next`. Arguments and errors are
    those of `StreamPool.open`; without `growing`, chunks that may still grow are left out.
    """

    def __init__(
        self,
        rate: int,
        cutter: Cutter,
        step_seconds: float,
        skip_late: bool = False,
        growing: bool = True,
    ) -> None:
        self._resampler = Resampler(rate)
        self._cutter = cutter
        self._cut_off = False  # Whether the cutter has finished.
        check_number("--step-seconds", step_seconds, SHORTEST_STEP, LONGEST_STEP)
        self._step = round(float(step_seconds) * SAMPLE_RATE)
        self.skips_late = skip_late
        self.growing = growing
        """Whether chunks that may still grow are returned."""
        self._inbox: deque[Samples] = deque()  # Written by the feeding thread.
        self._waiting: Samples = np.zeros(0, np.float32)
        self._certain: deque[Chunk] = deque()
        self._step_due = False
        self.fed = 0
        """Samples that were accepted, at the input rate."""
        self.processed = 0
        """Samples at 16 kHz that were given to the cutter."""
        self.ending = False
        """Whether `end` was called."""

    @property
    def rate(self) -> int:
        """Samples per second of the input."""
        return self._resampler.rate

    @property
    def done(self) -> bool:
        """Whether the stream has ended and `next` has returned all of it."""
        return self._cut_off and not self._certain

    @property
    def behind(self) -> bool:
        """Whether a step or a chunk is due."""
        needed = self._step - self.processed % self._step
        return self.ending or bool(self._certain) or self._unprocessed() >= needed

    @property
    def late(self) -> bool:
        """Whether the next step is due already, and late steps are left out."""
        return self.skips_late and self._unprocessed() >= self._step

    def accept(self, block: Samples) -> None:
        """Add samples, float32 [n]."""
        self.fed += len(block)
        if len(block):
            self._inbox.append(self._resampler.push(block[None])[0])

    def end(self) -> None:
        """Mark the end of the stream."""
        if not self.ending:
            self._inbox.append(self._resampler.finish()[0])
            self.ending = True

    def next(self) -> PendingChunk | None:
        """The next chunk to recognize, or skipped silence; None until more samples arrive."""
        while True:
            if self._certain:
                return PendingChunk(self._certain.popleft(), ends=True)
            if self._step_due:
                self._step_due = False
                if self.late or not self.growing:
                    continue
                growing = self._cutter.unfixed()
                if growing is not None:
                    return PendingChunk(growing, ends=False)
            if not self._process():
                return None

    def _unprocessed(self) -> int:
        """Samples at 16 kHz that were accepted and not yet given to the cutter."""
        # A copy, because the feeding thread may append at the same time.
        return len(self._waiting) + sum(map(len, tuple(self._inbox)))

    def _process(self) -> bool:
        """Give the cutter samples up to the next position at which something may be due; returns
        whether there were any."""
        ending = self.ending  # Read before the inbox, which then has everything before the end.
        blocks = [self._inbox.popleft() for _ in range(len(self._inbox))]
        if blocks:
            self._waiting = np.concatenate((self._waiting, *blocks))
        needed = min(step - self.processed % step for step in (self._step, CUT_STEP))
        if len(self._waiting) < needed and not ending:
            return False
        if len(self._waiting):
            samples, self._waiting = self._waiting[:needed].copy(), self._waiting[needed:]
            self.processed += len(samples)
            self._certain.extend(self._cutter.feed(samples))
            self._step_due = self.processed % self._step == 0
            return True
        if self._cut_off:
            return False
        self._cut_off = True
        self._certain.extend(self._cutter.finish())
        return True
