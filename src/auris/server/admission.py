"""How much audio may be under way at once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from auris.server.failures import busy

__all__ = ["Gate"]

LEAST_SECONDS = 5.0
"""What a recording counts at least: every call costs a thread."""

WAIT_SECONDS = (1, 60)
"""Shortest and longest time that a refused caller is told to wait."""


class Gate:
    """Admits recordings while there is room; one alone always fits.

    Args:
        most_seconds: audio of all recordings under way.
        speed: seconds of audio that are recognized in a second.
    """

    def __init__(self, most_seconds: float, speed: Callable[[], float]) -> None:
        self._most = most_seconds
        self._speed = speed
        self._lock = threading.Lock()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Audio under way."""
        return self._seconds

    def check(self) -> None:
        """Refuse a caller before its recording is read, when there is no room for any.

        Raises:
            ApiError: there is none.
        """
        if self._seconds > 0 and self._seconds + LEAST_SECONDS > self._most:
            raise self._full()

    @contextmanager
    def admitted(self, seconds: float) -> Iterator[None]:
        """Hold room for a recording.

        Raises:
            ApiError: there is none.
        """
        counted = max(seconds, LEAST_SECONDS)
        with self._lock:
            if self._seconds > 0 and self._seconds + counted > self._most:
                raise self._full()
            self._seconds += counted
        try:
            yield
        finally:
            with self._lock:
                # Rounding leaves a trace that is no audio.
                self._seconds = max(0.0, round(self._seconds - counted, 3))

    def _full(self) -> Exception:
        least, most = WAIT_SECONDS
        wait = math.ceil(self._seconds / 2 / max(self._speed(), 0.1))
        return busy(
            "The server has all the audio that it takes at once.", max(least, min(wait, most))
        )
