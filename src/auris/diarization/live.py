"""Speakers while a recording grows: known at once, and corrected when it ends.

The newest sound is labelled before the windows of the recording cover it: each of its
stretches is given to the most similar speaker so far. All stretches are clustered anew whenever
there are so many more of them, so the work grows nearly as slowly as the recording, and speakers
keep their names from one clustering to the next. The turns of `finish` are those of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.diarization.clustering import NOBODY, assigned, clustered
from auris.diarization.diarizer import DiarizationSession, Diarizer, SpeakerCount
from auris.diarization.known import mean_embeddings, names_of
from auris.diarization.turns import active_speakers, turns_of
from auris.diarization.windows import FRAME, NO_SAMPLES, VoiceWindow
from auris.recognition.options import VoiceDiarizer
from auris.types import SAMPLE_RATE, Samples, SpeakerTurn

Ints = NDArray[np.int64]

GROWTH = 1.05
"""Stretches are clustered anew when there are so many times as many as before."""

CONTEXT_FRAMES = 100
"""Frames before the new sound that are used with it, so that a stretch is long enough."""

LEAST_FRAMES = 300
"""Fewest frames that are used to label the newest sound, if there are as many."""


class LiveDiarization(DiarizationSession, VoiceDiarizer):
    """The diarization of a recording that grows. Samples that stay are fed; `label_newest` also
    takes those that will be fed later.

    Attributes:
        origin: where the next stream of it begins, in samples.
    """

    def __init__(self, diarizer: Diarizer, count: SpeakerCount) -> None:
        diarizer.check(count)
        super().__init__(diarizer.networks, count, diarizer.voices, diarizer.names)
        self._values = diarizer.values
        self.origin = 0
        self._newest: list[VoiceWindow] = []  # Of sound that no other window covers yet.
        self._labels: list[Ints] = []  # Speakers of all windows, as far as they are known.
        self._centers = np.zeros((0, 0), np.float32)
        self._current: list[str] = []  # Names of the centers.
        self._clustered = 0

    @property
    def values(self) -> Mapping[str, Any]:
        """What can change its results, as plain values."""
        return self._values

    def label_newest(self, start: int, samples: Samples = NO_SAMPLES) -> None:
        """Tell the speakers of the newest sound apart.

        Args:
            start: number of the first sample that is not fed yet.
            samples: from there on; they will be fed later.
        """
        self.feed(start, NO_SAMPLES)
        self._label_fed()
        seen = max([self._reader.covered, *map(_end, self._newest)])
        end = (self._fed + len(samples)) // FRAME
        frames = max(end - seen + CONTEXT_FRAMES, LEAST_FRAMES)
        for window in self._reader.newest(samples, frames):
            self._newest.append(window)
            self._labels.append(assigned(window, self._centers))
        windows = [*self._windows, *self._newest]
        count = sum(int(np.count_nonzero(window.frames)) for window in windows)
        if count > GROWTH * self._clustered:
            self._cluster(windows)
            self._clustered = count

    def turns(self, since: float) -> list[SpeakerTurn]:
        """The turns of the newest sound, as far as they are known; they may be corrected later.

        Args:
            since: seconds of the recording from which on all turns are needed.
        """
        self._label_fed()
        begin = (self._begin or 0) / SAMPLE_RATE
        first = round((since - begin) * SAMPLE_RATE) // FRAME
        windows = [*self._windows, *self._newest]
        recent = [pair for pair in zip(windows, self._labels, strict=True) if _end(pair[0]) > first]
        if not recent:
            return []
        recent.sort(key=lambda pair: pair[0].start)
        start = recent[0][0].start
        moved = [replace(window, start=window.start - start) for window, _ in recent]
        blocks = active_speakers(moved, [label for _, label in recent], len(self._current))
        names = dict(enumerate(self._current))
        return turns_of(blocks, len(names), begin + start * FRAME / SAMPLE_RATE, (), names)

    def _label_fed(self) -> None:
        """Label the windows of what was fed since, and leave out what they cover of the newest
        sound."""
        known = len(self._labels) - len(self._newest)
        labels = self._labels[:known]
        labels += [assigned(window, self._centers) for window in self._windows[known:]]
        newest = [
            (window, label)
            for window, label in zip(self._newest, self._labels[known:], strict=True)
            if _end(window) > self._reader.covered
        ]
        self._newest = [window for window, _ in newest]
        self._labels = [*labels, *(label for _, label in newest)]

    @property
    def _fed(self) -> int:
        """Samples that were fed."""
        return self._end - (self._begin or 0)

    def _cluster(self, windows: Sequence[VoiceWindow]) -> None:
        count, settings = self._count, self._networks.settings
        before = self._labels
        self._labels, self._centers = clustered(windows, settings, count.least, count.most)
        means = mean_embeddings(windows, self._labels, len(self._centers))
        known = names_of(means, self._voices, settings.threshold)
        shared = np.zeros((len(self._centers), len(self._current)), np.int64)
        for window, now, earlier in zip(windows, self._labels, before, strict=True):
            both = (now != NOBODY) & (earlier != NOBODY)
            np.add.at(shared, (now[both], earlier[both]), window.frames[both])
        self._current = self._named(known, shared)

    def _named(self, known: dict[int, str], shared: Ints) -> list[str]:
        """Names of the speakers: known ones, else the name before of most of the speech, else a
        new one."""
        given = dict(known)
        voices = {voice.name for voice in self._voices}
        shared = shared.copy()
        shared[list(given)] = 0
        for earlier, name in enumerate(self._current):
            if name in voices:
                shared[:, earlier] = 0
        while shared.any():
            speaker, earlier = map(int, np.unravel_index(int(shared.argmax()), shared.shape))
            given[speaker] = self._current[earlier]
            shared[speaker], shared[:, earlier] = 0, 0
        names = iter(self._count.names or self._names())
        taken = {*given.values(), *voices}
        unused = (name for name in names if name not in taken)
        return [given[n] if n in given else next(unused) for n in range(len(shared))]


def _end(window: VoiceWindow) -> int:
    return window.start + len(window.active)
