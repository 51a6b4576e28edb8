"""Turn detection of the server: where speech begins and ends, decided while the audio arrives.

The level in the band of voices is compared with that of the noise, which is the lowest level of the
last seconds (minimum statistics, after Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001). `auris.audio.vad` also uses later audio and is
therefore better, but here a decision is needed at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auris.server.realtime.config import TurnDetection

Pcm = NDArray[np.int16]

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
"""Rise above the noise that is speech at a threshold of 0.5, and the scale of the logistic curve
that gives it for other thresholds."""

RELEASE_DB = 3.0
"""Speech that continues may be this much weaker than speech that begins."""


@dataclass(frozen=True)
class SpeechStarted:
    """A turn begins at this sample of the audio."""

    sample: int


@dataclass(frozen=True)
class SpeechAudio:
    """More of a turn, [S]."""

    samples: Pcm


@dataclass(frozen=True)
class SpeechStopped:
    """A turn ended before this sample."""

    sample: int


TurnEvents = list[SpeechStarted | SpeechAudio | SpeechStopped]


class _Levels:
    """Levels of frames above the noise."""

    def __init__(self, rate: int) -> None:
        self.frame = rate * FRAME_MS // 1000
        self._window = np.hanning(self.frame + 1)[:-1]
        frequencies = np.fft.rfftfreq(self.frame, 1.0 / rate)
        self._band = (frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1])
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
    """Cuts audio into turns; `position` is the number of samples before."""

    def __init__(self, detection: TurnDetection, rate: int, position: int) -> None:
        self._levels = _Levels(rate)
        self._rise = _rise_db(detection.threshold)
        self._patience = detection.silence_duration_ms / FRAME_MS
        padding = rate * detection.prefix_padding_ms // 1000
        self._most_before = padding + SMOOTHED * self._levels.frame
        self._before = np.zeros(0, np.int16)  # What may turn out to belong to a turn.
        self._rest = np.zeros(0, np.int16)  # Less than a frame.
        self._position = position
        self._quiet_frames = 0
        self.speaking = False

    def push(self, samples: Pcm) -> TurnEvents:
        """Take more audio, [S] of any length; returns what follows from it, in order."""
        audio = np.concatenate((self._rest, samples))
        size = self._levels.frame
        complete = len(audio) // size * size
        self._rest = audio[complete:].copy()
        events: TurnEvents = []
        for index, rise in enumerate(self._levels.rises(audio[:complete])):
            events += self._push_frame(audio[index * size : (index + 1) * size], rise)
        return events

    def end(self) -> TurnEvents:
        """End the present turn, if there is one; returns what is left of it."""
        rest, self._rest = self._rest, self._rest[:0]
        self._position += len(rest)
        if not self.speaking:
            self._remember(rest)
            return []
        self.speaking = False
        return [SpeechAudio(rest), SpeechStopped(self._position)]

    def clear(self) -> None:
        """Drop the audio, but not the level of the noise."""
        self._position += len(self._rest)
        self._rest, self._before = self._rest[:0], self._before[:0]
        self.speaking = False

    def _push_frame(self, frame: Pcm, rise: float) -> TurnEvents:
        self._position += len(frame)
        if not self.speaking:
            self._remember(frame)
            if rise < self._rise:
                return []
            self.speaking, self._quiet_frames = True, 0
            turn, self._before = self._before, self._before[:0]
            return [SpeechStarted(self._position - len(turn)), SpeechAudio(turn)]
        self._quiet_frames = 0 if rise >= self._rise - RELEASE_DB else self._quiet_frames + 1
        if self._quiet_frames < self._patience:
            return [SpeechAudio(frame)]
        self.speaking = False
        return [SpeechAudio(frame), SpeechStopped(self._position)]

    def _remember(self, samples: Pcm) -> None:
        self._before = np.concatenate((self._before, samples))[-self._most_before :]


def _rise_db(threshold: float) -> float:
    """Rise above the noise at which speech begins."""
    if not 0.0 < threshold < 1.0:
        return math.copysign(math.inf, threshold - 0.5)
    return RISE_DB + SCALE_DB * math.log(threshold / (1.0 - threshold))
