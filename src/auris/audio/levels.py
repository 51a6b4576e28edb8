"""The level of a voice above the noise, decided while the audio arrives.

The level in the band of voices is compared with that of the noise, which is the lowest level of the
last seconds (minimum statistics, after Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001). `auris.audio.vad` also uses later audio and is
therefore better, but where a turn ends, a decision is needed at once.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from auris.types import Samples

FRAME_MS = 20
"""Length of the frames that are classified."""

BAND_HZ = (200.0, 3400.0)
"""The band of voices, on the telephone too."""

SMOOTHED = 3
"""Frames (60 ms) over which a level is averaged, so that short knocks count less."""

PAST = 150
"""Frames (3 s) whose lowest level is the noise: no one speaks that long without a gap."""

QUIET_DB = -65.0
"""Lowest level of the noise, full scale being 0: what is weaker is silence."""

UNKNOWN_DB = -50.0
"""Highest level of the noise before `PAST` frames, since the client may be speaking already."""

RISE_DB, SCALE_DB = 9.0, 4.0
"""Rise above the noise that has the probability 0.5, and the scale of the logistic curve that
gives the probabilities of other rises."""

RELEASE_DB = 3.0
"""Speech that continues may be this much weaker than speech that begins."""


class LevelMeter:
    """The probability of speech in frames of 20 ms, by their levels; a `SpeechMeter`."""

    def __init__(self, rate: int) -> None:
        self.frame = rate * FRAME_MS // 1000
        self._window = np.hanning(self.frame + 1)[:-1]
        frequencies = np.fft.rfftfreq(self.frame, 1.0 / rate)
        self._band = (frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1])
        self._scale = 4.0 / np.square(self._window.sum())
        self._last: deque[float] = deque(maxlen=SMOOTHED)
        self._past: deque[float] = deque(maxlen=PAST)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> list[float]:
        """Take more samples; returns the probabilities of the complete frames."""
        audio = np.concatenate((self._rest, samples))
        complete = len(audio) // self.frame * self.frame
        self._rest = audio[complete:].copy()
        frames = audio[:complete].reshape(-1, self.frame) * self._window
        powers = np.square(np.abs(np.fft.rfft(frames, axis=1)))[:, self._band].sum(1)
        return [self._probability(power) for power in (powers * self._scale).tolist()]

    def _probability(self, power: float) -> float:
        self._last.append(power)
        level = 10.0 * math.log10(sum(self._last) / len(self._last) + 1e-12)
        self._past.append(level)
        noise = min(self._past)
        if len(self._past) < PAST:
            noise = min(noise, UNKNOWN_DB)
        rise = level - max(noise, QUIET_DB)
        return 1.0 / (1.0 + math.exp((RISE_DB - rise) / SCALE_DB))

    def release(self, threshold: float) -> float:
        """The probability that continues speech which begins at a threshold."""
        if not 0.0 < threshold < 1.0:
            return threshold
        odds = threshold / (1.0 - threshold) * math.exp(-RELEASE_DB / SCALE_DB)
        return odds / (1.0 + odds)
