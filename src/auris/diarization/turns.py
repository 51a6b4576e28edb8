"""Turns of speakers from the voices of overlapping windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from auris.diarization.clustering import NOBODY
from auris.diarization.windows import FRAME, VoiceWindow, joined_spans
from auris.types import SAMPLE_RATE, SpeakerTurn

BLOCK_FRAMES = 6000
"""Frames that are decided at once, one minute."""

FILLED_FRAMES = 50
"""Shorter pauses of a speaker are filled."""

LEAST_FRAMES = 10
"""Shorter turns are left out."""


def active_speakers(
    windows: Sequence[VoiceWindow], labels: Sequence[NDArray[np.int64]], speakers: int
) -> Iterator[NDArray[np.bool_]]:
    """Which speakers speak in each frame, as consecutive blocks of bool [frames, speakers].

    Windows count the more the nearer a frame is to their middle. As many speakers are active as
    voices on the average of the windows: those that are active in most windows.
    """
    end = max((window.start + len(window.active) for window in windows), default=0)
    first = 0
    for start in range(0, end, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, end)
        votes = np.zeros((stop - start, speakers))
        weights = np.zeros((stop - start, 1))
        while first < len(windows) and windows[first].start + len(windows[first].active) <= start:
            first += 1
        for number in range(first, len(windows)):
            window = windows[number]
            if window.start >= stop:
                break
            frames = len(window.active)
            low, high = max(start, window.start), min(stop, window.start + frames)
            inside = slice(low - window.start, high - window.start)
            weight = (1.0 - np.abs(np.linspace(-1.0, 1.0, frames + 2)[1:-1]))[inside, None]
            for voice, speaker in enumerate(labels[number]):
                if speaker == NOBODY:
                    continue
                here = weight[:, 0] * window.active[inside, voice]
                column = votes[low - start : high - start, speaker]
                np.add(column, here, out=column)
            weights[low - start : high - start] += weight
        votes /= np.maximum(weights, 1e-9)
        counts = np.rint(np.minimum(votes.sum(1), speakers)).astype(np.int64)
        ranks = np.argsort(np.argsort(-votes, axis=1, kind="stable"), axis=1, kind="stable")
        yield (ranks < counts[:, None]) & (votes > 0)


def numbers() -> Iterator[str]:
    """Names of any number of speakers."""
    return (f"speaker {number}" for number in count(1))


def turns_of(
    blocks: Iterator[NDArray[np.bool_]],
    speakers: int,
    begin: float = 0.0,
    names: Iterable[str] | None = None,
    known: Mapping[int, str] | None = None,
) -> list[SpeakerTurn]:
    """The turns of all speakers by their starts.

    Args:
        blocks: as `active_speakers` gives them.
        begin: time of the first frame, in seconds.
        names: for the speakers in the order in which they begin to speak; None for numbers.
        known: names of speakers, who take none of the others.
    """
    states = np.concatenate([np.zeros((0, speakers), bool), *blocks])
    spans = [
        (first, last, speaker)
        for speaker in range(speakers)
        for first, last in _spans(states[:, speaker])
    ]
    given = dict(known or {})
    taken = set(given.values())
    others = (name for name in (numbers() if names is None else names) if name not in taken)
    turns = []
    for first, last, speaker in sorted(spans):
        if speaker not in given:
            given[speaker] = next(others)
        start, end = (begin + frame * FRAME / SAMPLE_RATE for frame in (first, last))
        turns.append(SpeakerTurn(start, end, given[speaker]))
    return turns


def _spans(state: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each turn of a speaker."""
    spans = joined_spans(state, FILLED_FRAMES - 1)
    return [(first, last) for first, last in spans if last - first >= LEAST_FRAMES]
