"""Where somebody begins and ceases to speak, told while they do: turn detection of the server.

The level of the band of voices is compared with that of the noise, which is the lowest level of the
last seconds (minimum statistics, after Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001). `auris.audio.vad` hears the future before it
decides, and so hears more; here an answer is wanted at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detection", "SpeechStarted", "SpeechStopped", "Spoken", "TurnCutter"]

Pcm = NDArray[np.int16]

FRAME_MS = 20
"""What is decided together."""

BAND_HZ = (200.0, 3400.0)
"""Where voices are, on the telephone too."""

SMOOTHED = 3
"""Frames (60 ms) over which a level is averaged: knocks are shorter."""

PAST = 150
"""Frames (3 s) that tell of the noise: no one speaks as long without a gap."""

QUIET_DB = -65.0
"""Noise is taken to be at least as strong, full scale being 0: what is weaker is silence."""

UNKNOWN_DB = -50.0
"""Noise is taken to be at most as strong as long as `PAST` has not been heard: whoever connects may
be speaking already."""

RISE_DB, SCALE_DB = 9.0, 4.0
"""What has to rise above the noise at a threshold of 0.5, and how the others spread around it (a
logistic curve)."""

RELEASE_DB = 3.0
"""Speech that goes on may be as much weaker than speech that begins."""


@dataclass(frozen=True)
class Detection:
    """How turns are detected; the API's own fields.

    Attributes:
        threshold: 0 to 1; higher ones want louder speech.
        prefix_padding_ms: audio before the first speech that belongs to a turn.
        silence_duration_ms: silence that ends it.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500

    @property
    def rise_db(self) -> float:
        """What has to rise above the noise for speech to begin."""
        if not 0.0 < self.threshold < 1.0:
            return math.copysign(math.inf, self.threshold - 0.5)
        return RISE_DB + SCALE_DB * math.log(self.threshold / (1.0 - self.threshold))


@dataclass(frozen=True)
class SpeechStarted:
    """A turn begins, at this sample of all that was heard."""

    at: int


@dataclass(frozen=True)
class Spoken:
    """More of a turn, [S]."""

    samples: Pcm


@dataclass(frozen=True)
class SpeechStopped:
    """A turn ended before this sample."""

    at: int


class _Levels:
    """Levels of frames above the noise."""

    def __init__(self, rate: int) -> None:
        self.frame = rate * FRAME_MS // 1000
        self._window = np.hanning(self.frame + 1)[:-1]
        places = np.fft.rfftfreq(self.frame, 1.0 / rate)
        self._band = (places >= BAND_HZ[0]) & (places <= BAND_HZ[1])
        self._scale = 4.0 / np.square(self._window.sum()) / 32768.0**2
        self._last: deque[float] = deque(maxlen=SMOOTHED)
        self._past: deque[float] = deque(maxlen=PAST)

    def rises(self, samples: Pcm) -> Iterator[float]:
        """How far each frame of [F * frame] samples rises above the noise, in dB."""
        frames = samples.reshape(-1, self.frame) * self._window
        powers = np.square(np.abs(np.fft.rfft(frames, axis=1)))[:, self._band].sum(1)
        for power in (powers * self._scale).tolist():
            self._last.append(power)
            level = 10.0 * math.log10(sum(self._last) / len(self._last) + 1e-12)
            self._past.append(level)
            noise = min(self._past)
            if len(self._past) < PAST:
                noise = min(noise, UNKNOWN_DB)
            yield level - max(noise, QUIET_DB)


class TurnCutter:
    """Cuts what is heard into turns.

    Args:
        detection: how.
        rate: samples per second.
        at: number of samples that were heard before.
    """

    def __init__(self, detection: Detection, rate: int, at: int) -> None:
        self._levels = _Levels(rate)
        self._padding = rate * detection.prefix_padding_ms // 1000
        self._rise = detection.rise_db
        self._patience = detection.silence_duration_ms / FRAME_MS
        self._rest = np.zeros(0, np.int16)
        self._kept: deque[Pcm] = deque()
        self._kept_samples = 0
        self._at = at
        self._quiet = 0
        self.speaking = False

    def hear(self, samples: Pcm) -> list[SpeechStarted | Spoken | SpeechStopped]:
        """Hear more, [S] of any length; returns what that decides, in order."""
        heard = np.concatenate((self._rest, samples))
        whole = len(heard) // self._levels.frame * self._levels.frame
        self._rest = heard[whole:].copy()
        found: list[SpeechStarted | Spoken | SpeechStopped] = []
        for place, rise in enumerate(self._levels.rises(heard[:whole])):
            first = place * self._levels.frame
            found += self._take(heard[first : first + self._levels.frame], rise)
        return found

    def end(self) -> list[SpeechStarted | Spoken | SpeechStopped]:
        """End the turn under way here, if there is one; returns what is left of it."""
        rest, self._rest = self._rest, self._rest[:0]
        if not self.speaking:
            self._keep(rest)
            return []
        self.speaking = False
        self._at += len(rest)
        return [Spoken(rest), SpeechStopped(self._at)]

    def forget(self) -> None:
        """Forget what was heard, but what is known of the noise."""
        self._at += len(self._rest)
        self._rest = self._rest[:0]
        self._kept.clear()
        self._kept_samples, self.speaking = 0, False

    def _take(self, frame: Pcm, rise: float) -> list[SpeechStarted | Spoken | SpeechStopped]:
        if not self.speaking:
            self._keep(frame)
            if rise < self._rise:
                return []
            self.speaking, self._quiet = True, 0
            return self._begin()
        self._at += len(frame)
        self._quiet = 0 if rise >= self._rise - RELEASE_DB else self._quiet + 1
        if self._quiet < self._patience:
            return [Spoken(frame)]
        self.speaking = False
        return [Spoken(frame), SpeechStopped(self._at)]

    def _keep(self, frame: Pcm) -> None:
        """Remember what may turn out to stand before speech."""
        self._at += len(frame)
        self._kept.append(frame)
        self._kept_samples += len(frame)
        most = self._padding + SMOOTHED * self._levels.frame
        while self._kept_samples - len(self._kept[0]) >= most:
            self._kept_samples -= len(self._kept.popleft())

    def _begin(self) -> list[SpeechStarted | Spoken | SpeechStopped]:
        kept = np.concatenate(self._kept)[-(self._padding + SMOOTHED * self._levels.frame) :]
        self._kept.clear()
        self._kept_samples = 0
        return [SpeechStarted(self._at - len(kept)), Spoken(kept)]
