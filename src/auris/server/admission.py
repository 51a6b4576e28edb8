"""How much audio may be under way at once. All of it is counted in samples, as integers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from auris.server.engine_queue import SHORT_SECONDS
from auris.server.errors import ApiError, busy
from auris.types import SAMPLE_RATE

__all__ = ["Gate"]

LEAST_SECONDS = 5.0
"""What a recording counts at least: every call costs a thread."""

WAIT_SECONDS = (1, 600)
"""Shortest and longest time that a refused caller is asked to wait."""


@dataclass(eq=False)
class _Admitted:
    """A recording under way.

    Attributes:
        samples: what it counts.
        short: whether it counts as a short one.
        since: when it was admitted, by the monotonic clock.
    """

    samples: int
    short: bool
    since: float


class Gate:
    """Admits recordings while there is room.

    Recordings of up to `SHORT_SECONDS` share the room with longer ones, but longer ones take no
    more than half of it from them. A longer recording that is alone among the longer ones is always
    admitted, however long it is.

    Args:
        most_seconds: audio of all recordings under way.
        speed: seconds of audio that are recognized in a second.
    """

    def __init__(self, most_seconds: float, speed: Callable[[], float]) -> None:
        self._most = _samples(most_seconds)
        self._speed = speed
        self._lock = threading.Lock()
        self._under_way: list[_Admitted] = []

    @property
    def seconds(self) -> float:
        """Audio under way."""
        with self._lock:
            return self._total() / SAMPLE_RATE

    def check(self) -> None:
        """Refuse a caller before its recording is read, when there is no room for any.

        Raises:
            ApiError: there is none.
        """
        with self._lock:
            missing = self._missing(_samples(LEAST_SECONDS), short=True)
            if missing > 0:
                raise self._full(missing)

    @contextmanager
    def admitted(self, samples: int) -> Iterator[None]:
        """Hold room for a recording.

        Args:
            samples: of one of its channels, at `SAMPLE_RATE`.

        Raises:
            ApiError: there is none.
        """
        counted = max(samples, _samples(LEAST_SECONDS))
        entry = _Admitted(counted, samples <= _samples(SHORT_SECONDS), time.monotonic())
        with self._lock:
            missing = self._missing(counted, entry.short)
            if missing > 0:
                raise self._full(missing)
            self._under_way.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(entry)

    def _total(self, short: bool | None = None) -> int:
        return sum(e.samples for e in self._under_way if short is None or e.short is short)

    def _missing(self, counted: int, short: bool) -> int:
        """Samples that have to be done before a recording fits; 0 or less where it does."""
        shorts, longs = self._total(short=True), self._total(short=False)
        if not self._under_way or (longs == 0 and not short):
            return 0
        if short:
            longs = min(longs, self._most // 2)
        return shorts + longs + counted - self._most

    def _full(self, missing: int) -> ApiError:
        least, most = WAIT_SECONDS
        wait = math.ceil(self._seconds_until(missing))
        return busy(
            "The server has all the audio that it takes at once.", max(least, min(wait, most))
        )

    def _seconds_until(self, missing: int) -> float:
        """When enough recordings are likely to be done, if they all go on at the same speed."""
        share = max(self._speed(), 0.1) * SAMPLE_RATE / len(self._under_way)
        now, freed, last = time.monotonic(), 0, 0.0
        ends = ((e.since + e.samples / share - now, e.samples) for e in self._under_way)
        for end, samples in sorted(ends):
            freed, last = freed + samples, end
            if freed >= missing:
                break
        return last


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
