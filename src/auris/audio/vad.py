"""Voice activity detection that rather takes noise for speech than speech for noise.

Speech comes and goes, while most noise is steady. So in each of a few bands of the spectrum the
noise is taken to be as strong as the weakest quarter of a second of the last seconds and of the
next one (minimum statistics, after Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001). What rises above that in any band counts as
speech, and so does the second before and behind it. Music and voices in the background count, too.

The work is done in blocks of one length, so decisions are the same whatever the sizes of the
blocks that the samples arrive in. Constants were chosen on training clips of real and synthesized
speech with pauses, in white, pink and brown noise; `benchmarks/voice_activity.py` measures the
effect.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from auris.types import SAMPLE_RATE, Samples

BLOCK = SAMPLE_RATE // 4
"""Samples that are decided together."""

FRAMES = 10
"""Spectra in a block; a frame is two hops long."""

HOP = BLOCK // FRAMES

EDGES_HZ = (100, 300, 720, 1200, 2000, 3000, 4500, 7000)
"""Borders of the bands. Below lies the hum of machines, above nothing that speech needs."""

PAST_BLOCKS = 40
"""Blocks (10 s) before the present one from which noise is estimated: in that time every speaker
leaves each band free for a quarter of a second."""

NEXT_BLOCKS = 4
"""Blocks (1 s) behind it that are used as well, so that a recording may begin with noise."""

SMOOTHED = 5
"""Frames over which power is averaged, so that steady noise itself moves less."""

RISE_DB = (6.0, 5.0, 4.5, 4.0, 4.0, 4.0, 4.0)
"""A band that is this far above its noise is speech. Steady noise itself moves more in narrow
bands."""

MEAN_RISE_DB = 1.9
"""Bands that are this far above their noise on average are speech, too."""

QUIET_DB = -85.0
"""Power of a band, full scale being 0, below which nothing is there: 16-bit audio ends here."""

AROUND_BLOCKS = 4
"""Blocks (1 s) before and behind a block with speech that count as speech: soft beginnings and
ends, and the weak sounds between strong ones."""

LOOK_AHEAD = (NEXT_BLOCKS + AROUND_BLOCKS) * BLOCK
"""Samples behind a block that are needed before it is decided."""


def _bands() -> tuple[slice, ...]:
    edges = [round(edge * 2 * HOP / SAMPLE_RATE) for edge in EDGES_HZ]
    return tuple(slice(low, high) for low, high in pairwise(edges))


class SpeechDetector:
    """Decides block by block whether anybody could be speaking."""

    def __init__(self) -> None:
        # A frame begins one hop earlier; before the first block there are zeros.
        self._waiting: list[Samples] = [np.zeros(HOP, np.float32)]
        self._length = HOP
        self._window = np.hanning(2 * HOP + 1)[:-1]
        self._bands = _bands()
        self._tail = np.zeros((0, len(self._bands)))
        self._levels: deque[NDArray[np.float64]] = deque(maxlen=PAST_BLOCKS + 1 + NEXT_BLOCKS)
        self._smooth: deque[NDArray[np.float64]] = deque()
        self._raised: deque[bool] = deque(maxlen=2 * AROUND_BLOCKS + 1)
        self._judged = 0

    def feed(self, samples: Samples) -> list[bool]:
        """Take more samples.

        Args:
            samples: float32 [n] at 16 kHz, n of any size.

        Returns:
            for every block of `BLOCK` samples that is decided now, in order, whether it could be
            speech.
        """
        self._waiting.append(samples)
        self._length += len(samples)
        if self._length < HOP + BLOCK:
            return []
        joined = np.concatenate(self._waiting)
        decided: list[bool] = []
        offset = 0
        while len(joined) - offset >= HOP + BLOCK:
            powers = self._powers(joined[offset : offset + HOP + BLOCK])
            self._levels.append(powers.mean(0))
            self._smooth.append(self._smoothed(powers))
            if len(self._smooth) > NEXT_BLOCKS:
                decided += self._judge()
            offset += BLOCK
        self._waiting = [joined[offset:].copy()]
        self._length = len(self._waiting[0])
        return decided

    def finish(self) -> list[bool]:
        """Decide the rest; the last block may be shorter than `BLOCK`."""
        rest = np.concatenate(self._waiting)
        decided: list[bool] = []
        if len(rest) > HOP:
            # Too short for the noise estimate, but it may hold the end of a word.
            self._smooth.append(self._smoothed(self._powers(rest)))
        while self._smooth:
            decided += self._judge()
        for _ in range(AROUND_BLOCKS):
            decided += self._decide(False)
        return decided

    def _powers(self, samples: Samples) -> NDArray[np.float64]:
        """Power of the bands in every complete frame, [frames, bands]."""
        count = len(samples) // HOP - 1
        halves = samples[: (count + 1) * HOP].reshape(count + 1, HOP).astype(np.float64)
        frames = np.concatenate([halves[:-1], halves[1:]], axis=1) * self._window
        spectrum = np.square(np.abs(np.fft.rfft(frames, axis=1)))
        scale = 2.0 / (2 * HOP * np.square(self._window).sum())
        bands = [spectrum[:, band].sum(1) for band in self._bands]
        return np.asarray(scale * np.stack(bands, axis=1))

    def _smoothed(self, powers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each frame and the ones before it, across the border of the blocks."""
        joined = np.concatenate([self._tail, powers])
        self._tail = joined[1 - SMOOTHED :]
        sums = np.cumsum(np.concatenate([np.zeros((1, joined.shape[1])), joined]), axis=0)
        ends = np.arange(len(joined) - len(powers), len(joined)) + 1
        begins = np.maximum(ends - SMOOTHED, 0)
        return np.asarray((sums[ends] - sums[begins]) / (ends - begins)[:, None])

    def _judge(self) -> list[bool]:
        """Whether the oldest block that waits rises above the noise around it."""
        smooth = self._smooth.popleft()
        quiet = np.full(len(self._bands), 10 ** (QUIET_DB / 10))
        noise = np.maximum(np.min(self._levels, axis=0), quiet) if self._levels else quiet
        rise = 10 * np.log10(np.maximum(smooth, quiet) / noise)
        mean = np.maximum(rise, 0.0).mean(1)
        return self._decide(bool((rise > np.array(RISE_DB)).any() or (mean > MEAN_RISE_DB).any()))

    def _decide(self, raised: bool) -> list[bool]:
        """Add a block; returns whether the one `AROUND_BLOCKS` before it counts as speech."""
        self._raised.append(raised)
        self._judged += 1
        return [any(self._raised)] if self._judged > AROUND_BLOCKS else []
