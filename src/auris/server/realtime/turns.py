"""Turn detection of the server: where speech begins and ends, decided while the audio arrives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auris.audio.activity import speech_meter
from auris.audio.arrays import as_float
from auris.server.realtime.config import TurnDetection

Pcm = NDArray[np.int16]

ONSET_FRAMES = 3
"""Frames after which speech is noticed; they belong to a turn in addition to the padding."""


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


class TurnCutter:
    """Cuts audio into turns.

    Args:
        detection: the settings of a client.
        rate: of the audio.
        position: number of samples before.
        vad_model: the detector, of `auris.audio.activity.VAD_MODELS`.
        speaking: whether a turn is open already.
    """

    def __init__(
        self,
        detection: TurnDetection,
        rate: int,
        position: int,
        vad_model: str = "auto",
        speaking: bool = False,
    ) -> None:
        self._meter = speech_meter(vad_model, rate)
        self._rate = rate
        self.configure(detection)
        self._before = np.zeros(0, np.int16)  # What may turn out to belong to a turn.
        self._rest = np.zeros(0, np.int16)  # What is not classified,
        self._given = 0  # and how much of it was part of a turn that a client ended.
        self._position = position
        self._quiet = 0
        self.speaking = speaking

    def configure(self, detection: TurnDetection) -> None:
        """Use other settings from the next frame on; an open turn stays open."""
        self._begin = detection.threshold
        self._continue = self._meter.release(detection.threshold)
        self._patience = self._rate * detection.silence_duration_ms // 1000
        padding = self._rate * detection.prefix_padding_ms // 1000
        self._most_before = padding + ONSET_FRAMES * self._meter.frame

    def push(self, samples: Pcm) -> TurnEvents:
        """Take more audio, [S] of any length; returns what follows from it, in order."""
        audio = np.concatenate((self._rest, samples))
        size = self._meter.frame
        position = 0
        events: TurnEvents = []
        for probability in self._meter.push(as_float(samples)):
            given = min(self._given, size)
            self._given -= given
            events += self._push_frame(audio[position + given : position + size], probability)
            position += size
        self._rest = audio[position:].copy()
        return events

    def end(self) -> TurnEvents:
        """End the present turn, if there is one; returns what is left of it."""
        rest = self._take_rest()
        if not self.speaking:
            self._remember(rest)
            return []
        self.speaking = False
        return [SpeechAudio(rest), SpeechStopped(self._position)]

    def clear(self) -> None:
        """Drop the audio, but not what the detector knows of the noise."""
        self._take_rest()
        self._before = self._before[:0]
        self.speaking = False

    def _take_rest(self) -> Pcm:
        """What is not classified; it is classified later, but part of no further turn."""
        rest = self._rest[self._given :]
        self._given = len(self._rest)
        self._position += len(rest)
        return rest

    def _push_frame(self, frame: Pcm, probability: float) -> TurnEvents:
        self._position += len(frame)
        if not self.speaking:
            self._remember(frame)
            if probability < self._begin:
                return []
            self.speaking, self._quiet = True, 0
            turn, self._before = self._before, self._before[:0]
            return [SpeechStarted(self._position - len(turn)), SpeechAudio(turn)]
        self._quiet = 0 if probability >= self._continue else self._quiet + len(frame)
        if self._quiet < self._patience:
            return [SpeechAudio(frame)]
        self.speaking = False
        return [SpeechAudio(frame), SpeechStopped(self._position)]

    def _remember(self, samples: Pcm) -> None:
        self._before = np.concatenate((self._before, samples))[-self._most_before :]
