"""Windows of a recording, and in them stretches of speech of one voice with their embeddings.

A recording is read in windows that overlap. In each of them a network tells up to three
voices apart, but it misses changes between similar voices. So the speech of each voice is cut into
stretches of about two seconds; whose stretches they are is decided later, by their embeddings.
Where voices are not separated, stretches may be units of half a second instead, whose embeddings
also take in the sound around them; then each window has those of its middle alone.
Windows lie at fixed places, so they are the same whatever the sizes of the blocks that the samples
arrive in. Of a recording only the windows are stored, not the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from auris.models.speaker_segmentation import CENTER, STEP
from auris.types import SAMPLE_RATE, Samples

FRAME = SAMPLE_RATE // 100
"""Samples of a frame of the result, 10 ms."""

WINDOW_FRAMES = 1000
STEP_FRAMES = 500
"""Frames between the starts of windows."""

STRETCH_FRAMES = 200
"""Target length of a stretch."""

UNIT_FRAMES = 50
"""Target length of a unit."""

UNIT_SOUND_FRAMES = 150
"""The embedding of a unit is of so much sound around its middle, without a pause that divides."""

PAUSE_FRAMES = 30
"""A longer pause ends a stretch."""

PART_FRAMES = 80
"""Parts have at least so many frames where speech is divided at a pause of up to `PAUSE_FRAMES`."""

LEAST_PAUSE_FRAMES = 8
"""A shorter pause does not divide speech."""

CLEAR_FRAMES = 50
"""With so many frames in which a voice is alone, an embedding is computed from these."""

LEAST_FRAMES = 20
"""A stretch with fewer frames has no embedding of its own."""

NO_SAMPLES: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True)
class VoiceWindow:
    """The stretches of speech of a window of a recording.

    Attributes:
        start: number of the window's first frame.
        active: which stretch lasts when, bool [frames, stretches].
        voices: the voice of each stretch, as the segmentation tells them apart in this window.
        embeddings: float32 [stretches, width], of unit length. A short stretch has the mean of its
            voice in the window; zeros if there is none.
        frames: number of frames from which each embedding was computed, 0 for such a mean.
    """

    start: int
    active: NDArray[np.bool_]
    voices: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    frames: NDArray[np.int64]


class Encoder(Protocol):
    """Computes embeddings of voices from features."""

    width: int

    def features(self, samples: torch.Tensor) -> torch.Tensor:
        """Features [frames, bands] of float32 samples [S], at most one frame for each 10 ms."""

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """The embedding [width], of unit length, of some of these frames."""


class Segmentation(Protocol):
    """Finds the speech of a window.

    Attributes:
        separates: whether it tells voices apart; otherwise stretches are divided at pauses, since
            the speaker may change there.
    """

    separates: bool

    def active(self, samples: torch.Tensor) -> torch.Tensor:
        """Which voices are active, bool [frames, voices], in float32 samples [S] of ten seconds;
        frames lie as those of `auris.models.speaker_segmentation`."""


@dataclass(frozen=True)
class StretchFrames:
    """Frames of a stretch of a voice, and the frames of whose sound its embedding is."""

    voice: int
    first: int
    last: int
    begin: int
    end: int

    def inside(self, first: int, last: int) -> StretchFrames:
        """The part of the stretch between two frames, with the same embedding."""
        return replace(self, first=max(self.first, first), last=min(self.last, last))


class SegmentedWindows:
    """Windows of ten seconds, every five, whose voices a segmentation network tells apart.

    Args:
        units: whether stretches are units, which needs a segmentation with one voice. Windows then
            follow each other without overlap.
    """

    def __init__(self, segmentation: Segmentation, encoder: Encoder, units: bool = False) -> None:
        self._segmentation, self._encoder, self._units = segmentation, encoder, units
        self._margin = (WINDOW_FRAMES - STEP_FRAMES) // 2 if units else 0
        self._buffer = np.zeros(0, np.float32)
        self._first = 0
        self._next = 0

    def feed(self, samples: Samples) -> Iterator[VoiceWindow]:
        """Take more samples; gives the windows that are complete now."""
        self._buffer = np.concatenate([self._buffer, samples])
        while self._frames >= self._next + WINDOW_FRAMES:
            offset = (self._next - self._first) * FRAME
            wave = self._buffer[offset : offset + WINDOW_FRAMES * FRAME]
            low = self._margin if self._next else 0
            yield self._window(self._next, wave, low, WINDOW_FRAMES - self._margin)
            self._next += STEP_FRAMES
            # The last ten seconds stay, since the last window ends with the recording.
            keep = max(self._frames - WINDOW_FRAMES, self._first)
            keep = min(keep, self._next)
            self._buffer = self._buffer[(keep - self._first) * FRAME :]
            self._first = keep

    def finish(self) -> Iterator[VoiceWindow]:
        """The last window, which ends with the recording; more samples may still follow."""
        if self._frames > self.covered:
            start = max(self._frames - WINDOW_FRAMES, 0)
            first, end = ((frame - self._first) * FRAME for frame in (start, self._frames))
            low = self.covered - start if self._units else 0
            yield self._window(start, self._buffer[first:end], low)

    def newest(self, samples: Samples, frames: int) -> Iterator[VoiceWindow]:
        """A window of at most so many frames, up to the end of samples that are fed later."""
        buffer = np.concatenate([self._buffer, samples])
        end = len(buffer) // FRAME
        start = max(end - min(frames, WINDOW_FRAMES), 0)
        if start < end:
            yield self._window(self._first + start, buffer[start * FRAME : end * FRAME])

    @property
    def covered(self) -> int:
        """Frames that the windows so far cover."""
        return self._next + WINDOW_FRAMES - STEP_FRAMES - self._margin if self._next else 0

    @property
    def _frames(self) -> int:
        """Complete frames so far."""
        return self._first + len(self._buffer) // FRAME

    def _window(
        self, start: int, wave: Samples, low: int = 0, high: int = WINDOW_FRAMES
    ) -> VoiceWindow:
        """The stretches between two frames of a window that begins at frame `start`."""
        samples, frames = torch.from_numpy(wave), len(wave) // FRAME
        high = min(high, frames)
        active = self._active(samples, frames)
        alone = active & (active.sum(1, keepdims=True) == 1)
        inside = [one.inside(low, high) for one in self._stretches(active)]
        stretches = [one for one in inside if active[one.first : one.last, one.voice].any()]
        bands = self._encoder.features(samples)[:frames]
        masks = np.zeros((frames, len(stretches)), bool)
        embeddings = np.zeros((len(stretches), self._encoder.width), np.float32)
        used = np.zeros(len(stretches), np.int64)
        for row, one in enumerate(stretches):
            masks[one.first : one.last, row] = active[one.first : one.last, one.voice]
            sound = slice(one.begin, min(one.end, len(bands)))
            indices = _clear_frames(active[sound, one.voice], alone[sound, one.voice])
            if len(indices):
                part = bands[torch.from_numpy(one.begin + indices)]
                embeddings[row] = self._encoder.embed(part).numpy()
                used[row] = len(indices)
        voices = np.array([one.voice for one in stretches], np.int64)
        _fill_from_voices(embeddings, voices, used)
        return VoiceWindow(start + low, masks[low:high], voices, embeddings, used)

    def _stretches(self, active: NDArray[np.bool_]) -> list[StretchFrames]:
        """The stretches of all voices of a window."""
        if self._units:
            return [StretchFrames(0, *unit) for state in active.T for unit in _units(state)]
        divide = _stretches if self._segmentation.separates else _divided_at_pauses
        return [
            StretchFrames(voice, first, last, first, last)
            for voice, state in enumerate(active.T)
            for first, last in divide(state)
        ]

    def _active(self, samples: torch.Tensor, frames: int) -> NDArray[np.bool_]:
        """Voices in frames of 10 ms, without those that never speak."""
        if not samples.abs().max() > 0:
            return np.zeros((frames, 0), bool)
        missing = WINDOW_FRAMES * FRAME - len(samples)
        states = self._segmentation.active(torch.nn.functional.pad(samples, (0, missing))).numpy()
        centers = np.arange(frames) * FRAME + FRAME // 2
        states = states[np.clip(np.rint((centers - CENTER) / STEP).astype(int), 0, len(states) - 1)]
        return np.asarray(states[:, states.any(0)])


def spans_of(state: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], state, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def joined_spans(state: NDArray[np.bool_], pause: int) -> list[tuple[int, int]]:
    """As `spans_of`, without the pauses of up to so many frames between runs."""
    joined: list[tuple[int, int]] = []
    for first, last in spans_of(state):
        if joined and first - joined[-1][1] <= pause:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _stretches(state: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each stretch of the speech of a voice."""
    return [stretch for span in joined_spans(state, PAUSE_FRAMES) for stretch in _evenly(*span)]


def _evenly(first: int, last: int, target: int = STRETCH_FRAMES) -> list[tuple[int, int]]:
    """Stretches of about the target length."""
    count = max(round((last - first) / target), 1)
    return list(pairwise(np.linspace(first, last, count + 1).round().astype(int).tolist()))


def _divided_at_pauses(state: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each stretch of speech, divided where it pauses longest."""
    return [stretch for phrase in _phrases(state) for stretch in _evenly(*phrase)]


def _units(state: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """First and end frame of each unit of speech, and of the sound of its embedding."""
    units = []
    for first, last in _phrases(state):
        for low, high in _evenly(first, last, UNIT_FRAMES):
            begin = min((low + high - UNIT_SOUND_FRAMES) // 2, last - UNIT_SOUND_FRAMES)
            begin = max(begin, first)
            units.append((low, high, begin, min(begin + UNIT_SOUND_FRAMES, last)))
    return units


def _phrases(state: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each phrase of speech between pauses at which the speaker may change:
    speech is divided where it pauses longest."""
    waiting = [spans_of(state)]
    phrases: list[tuple[int, int]] = []
    while waiting:
        spans = waiting.pop()
        if not spans:
            continue
        first, last = spans[0][0], spans[-1][1]
        pauses = [after[0] - before[1] for before, after in pairwise(spans)]
        for number, after in enumerate(spans[1:]):
            near = min(spans[number][1] - first, last - after[0])
            if pauses[number] <= PAUSE_FRAMES and near < PART_FRAMES:
                pauses[number] = 0
        longest = int(np.argmax(pauses)) if pauses else 0
        if pauses and pauses[longest] >= LEAST_PAUSE_FRAMES:
            waiting += [spans[longest + 1 :], spans[: longest + 1]]
        else:
            phrases.append((first, last))
    return phrases


def _clear_frames(active: NDArray[np.bool_], alone: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Frames from which the embedding of a stretch is computed, in the order of time."""
    indices = np.flatnonzero(active & alone)
    if len(indices) < CLEAR_FRAMES:
        indices = np.flatnonzero(active)
    return indices if len(indices) >= LEAST_FRAMES else indices[:0]


def _fill_from_voices(
    embeddings: NDArray[np.float32], voices: NDArray[np.int64], frames: NDArray[np.int64]
) -> None:
    """Give stretches without an embedding the mean of their voice."""
    for row in np.flatnonzero(frames == 0):
        others = (voices == voices[row]) & (frames > 0)
        if others.any():
            mean = (embeddings[others] * frames[others, None]).sum(0)
            embeddings[row] = mean / max(float(np.linalg.norm(mean)), 1e-9)
