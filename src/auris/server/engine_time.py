"""What an engine's time goes to."""

from __future__ import annotations

import threading
import time
from enum import Enum

__all__ = ["Activity", "TimeSheet"]


class Activity(Enum):
    """What an engine's thread does."""

    IDLE = "idle"
    FILES = "files"
    LIVE = "live"


class TimeSheet:
    """Seconds of an engine's thread by activity, up to date also while one goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(Activity, 0.0)
        self._now = Activity.IDLE
        self._since = time.perf_counter()

    def begin(self, activity: Activity) -> None:
        """What the thread does from now on."""
        with self._lock:
            moment = time.perf_counter()
            self._seconds[self._now] += moment - self._since
            self._now, self._since = activity, moment

    def seconds(self, activity: Activity) -> float:
        """Seconds so far."""
        with self._lock:
            under_way = time.perf_counter() - self._since if activity is self._now else 0.0
            return self._seconds[activity] + under_way
