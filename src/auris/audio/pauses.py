"""The pause at which a chunk of live speech ends, found without later samples.

The longer the chunk, the shorter and the less quiet a pause may be, so that a speaker who hardly
pauses gets final text, too. Everything is counted from the beginning of the chunk: a stream that
begins there is cut alike.
"""

from __future__ import annotations

import numpy as np

from auris.audio.activity import SILENCE, VOICE, frame_probabilities
from auris.audio.silero import FRAME
from auris.types import SAMPLE_RATE, Samples

STEP = SAMPLE_RATE // 100
"""Samples between the positions that are compared."""

SHORTEST_LIVE = 0.25
"""The part of its target that a chunk has at least before a pause."""

LATE = 1.0
"""The part of its target from which a chunk ends at the shortest pause."""

FIRST_PAUSE_SECONDS = 0.8
"""Length of the pause that ends a short chunk, where a model has no other one."""

LATE_PAUSE_SECONDS = 0.2
"""Length of the pause that ends a late chunk."""

LATE_VOICELESS_SECONDS = 0.4
"""Time without a voice that ends a late chunk; in a short one it is that of the pause, or this."""

DEPTHS = (25.0, 20.0)
"""How far such a pause lies below the samples of the chunk up to its end, in dB."""

INAUDIBLE = 1e-9
"""Power that counts as silence."""


class PauseFinder:
    """Finds the pause that ends a chunk.

    A pause is quiet, or the detector of voices finds no voice for a time in noise behind a voice.

    Args:
        target: samples of a chunk without a pause; a pause ends no later.
        vad_model: a detector of `auris.audio.activity.VAD_MODELS`; energy adds nothing to the
            levels.
        first_seconds: length of the pause that ends a short chunk, `LATE_PAUSE_SECONDS` or more.
    """

    def __init__(
        self, target: int, vad_model: str, first_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self._longest = target // STEP
        self._shortest = round(target * SHORTEST_LIVE)
        self._late = round(target * LATE)
        self._vad_model = vad_model
        voiceless = max(first_seconds, LATE_VOICELESS_SECONDS)
        # Steps: of a short chunk and of a late one.
        self._lengths = _steps(first_seconds), _steps(LATE_PAUSE_SECONDS)
        self._voiceless = _steps(voiceless), _steps(LATE_VOICELESS_SECONDS)
        self.begin(np.zeros(0, np.float32))

    def begin(self, samples: Samples) -> None:
        """Begin the next chunk with the samples that follow a cut."""
        self._rest = np.zeros(0, np.float32)
        self._sums = np.zeros(1)  # Of squares, up to each step of the chunk.
        self._checked = 0
        self._sound = False
        self._frames = frame_probabilities(self._vad_model)
        self._voices: list[float] = []
        self._pending: list[Samples] = []  # Given to the detector when it is first asked.
        self.add(samples)

    def add(self, samples: Samples) -> None:
        """Take more samples of the chunk, float32 [n]."""
        if self._frames is not None:
            self._pending.append(samples)
        joined = np.concatenate((self._rest, samples))
        steps = len(joined) // STEP
        squares = np.square(joined[: steps * STEP], dtype=np.float64).reshape(steps, STEP).sum(1)
        self._sums = np.concatenate((self._sums, self._sums[-1] + np.cumsum(squares)))
        self._rest = joined[steps * STEP :].copy()

    def find(self) -> int | None:
        """The middle of the first pause, in samples of the chunk; None if there is none yet."""
        first = max(self._checked + 1, *self._lengths, *self._voiceless)
        ends = np.arange(first, min(len(self._sums), self._longest + 1))
        if not len(ends):
            return None
        self._checked = int(ends[-1])
        growth = (ends * STEP - self._shortest) / (self._late - self._shortest)
        lengths = np.interp(growth, (0, 1), self._lengths).astype(int)
        voiceless = np.interp(growth, (0, 1), self._voiceless).astype(int)
        depths = np.interp(growth, (0, 1), DEPTHS)
        powers = (self._sums[ends] - self._sums[ends - lengths]) / (lengths * STEP)
        averages = self._sums[ends] / (ends * STEP)
        quiet = powers <= averages * 10.0 ** (-depths / 10.0) + INAUDIBLE
        sound = self._sound | np.logical_or.accumulate(~quiet)
        self._sound = bool(sound[-1])
        pauses = quiet & sound & ((ends - lengths) * STEP >= self._shortest)
        steps = zip(ends.tolist(), lengths.tolist(), voiceless.tolist(), pauses, strict=True)
        for end, length, silent, pause in steps:
            if pause:
                return int(end - length // 2) * STEP
            if self._voice_is_over(end, silent):
                return int(end - silent // 2) * STEP
        return None

    def _voice_is_over(self, end: int, length: int) -> bool:
        """Whether the detector finds no voice in the last steps before one, and a voice before."""
        begin = end - length
        if self._frames is None or begin * STEP < self._shortest:
            return False
        first, last = begin * STEP // FRAME, end * STEP // FRAME
        if max(self._voices[first:last], default=0.0) >= SILENCE:
            return False
        # Only now, since the detector takes less time for many frames at once.
        if self._pending:
            self._voices += self._frames.push(np.concatenate(self._pending))
            self._pending = []
        before, inside = self._voices[:first], self._voices[first:last]
        return max(inside) < SILENCE and max(before, default=0.0) >= VOICE


def _steps(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / STEP)
