"""The limit of the audio in progress. It counts samples, as integers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from auris.server.errors import busy
from auris.types import SAMPLE_RATE

SHORT_SECONDS = 60.0
"""Longest recording that goes before longer ones."""

LEAST_SECONDS = 5.0
"""Smallest length that a recording counts as, since every call costs a thread."""


class _Admitted(NamedTuple):
    """A recording in progress: its samples as counted, and when it was admitted."""

    samples: int
    is_short: bool
    since: float


class Gate:
    """Admits recordings while there is room.

    Recordings of up to `SHORT_SECONDS` share the room with longer ones, but longer ones take no
    more than half of it from them. A longer recording that is alone among the longer ones is always
    admitted, however long it is.

    Args:
        most_seconds: audio of all recordings in progress.
        speed: seconds of audio that are recognized in a second.
    """

    def __init__(self, most_seconds: float, speed: Callable[[], float]) -> None:
        self._most = _samples(most_seconds)
        self._speed = speed
        self._lock = threading.Lock()
        self._in_progress: list[_Admitted] = []

    @property
    def seconds(self) -> float:
        """Audio in progress."""
        with self._lock:
            return sum(entry.samples for entry in self._in_progress) / SAMPLE_RATE

    def check(self) -> None:
        """Refuse a caller before its recording is read, when there is no room for any."""
        with self._lock:
            self._require_room(_samples(LEAST_SECONDS), is_short=True)

    @contextmanager
    def admitted(self, samples: int) -> Iterator[None]:
        """Count a recording until the end of the block, by its samples at `SAMPLE_RATE`.

        Raises:
            ApiError: there is no room.
        """
        counted = max(samples, _samples(LEAST_SECONDS))
        entry = _Admitted(counted, samples <= _samples(SHORT_SECONDS), time.monotonic())
        with self._lock:
            self._require_room(counted, entry.is_short)
            self._in_progress.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._in_progress.remove(entry)

    def _require_room(self, samples: int, is_short: bool) -> None:
        shorts = sum(entry.samples for entry in self._in_progress if entry.is_short)
        longs = sum(entry.samples for entry in self._in_progress if not entry.is_short)
        if not self._in_progress or (longs == 0 and not is_short):
            return
        if is_short:
            longs = min(longs, self._most // 2)
        missing = shorts + longs + samples - self._most
        if missing > 0:
            raise busy(
                "The server has all the audio that it takes at once.", self._seconds_until(missing)
            )

    def _seconds_until(self, missing: int) -> float:
        """Estimated time until enough samples are done, if all recordings have the same speed."""
        share = max(self._speed(), 0.1) * SAMPLE_RATE / len(self._in_progress)
        now, freed, last = time.monotonic(), 0, 0.0
        ends = ((e.since + e.samples / share - now, e.samples) for e in self._in_progress)
        for end, samples in sorted(ends):
            freed, last = freed + samples, end
            if freed >= missing:
                break
        return last


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
