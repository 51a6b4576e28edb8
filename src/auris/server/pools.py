"""Threads beside the event loop: a lane for each kind of work, so that cheap work never waits for
expensive work."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from auris.server.errors import ApiError, busy
from auris.server.niceness import lower_this_thread

__all__ = ["Lane", "Pools"]

T = TypeVar("T")

RETRY_SECONDS = (1, 600)
"""Shortest and longest time after which a refused caller is asked to come again."""


class Lane:
    """Threads that do one kind of work, in the order in which it comes.

    They are daemon threads, so that a server that stops does not wait for work that nobody will
    read; those of `concurrent.futures` keep the process until they are done.

    Args:
        name: of the threads.
        threads: how many there are at most; they are started when they are needed.
        waiting: most work that waits for a thread; None for any.
        niceness: of the threads and of processes that they start.
    """

    def __init__(
        self, name: str, threads: int, waiting: int | None = None, niceness: int = 0
    ) -> None:
        self._name = name
        self._most_threads = threads
        self._most_waiting = waiting
        self._niceness = niceness
        self._change = threading.Condition()
        self._queue: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._usual_seconds = 1.0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work; cancelling the future before its turn removes it.

        Raises:
            ApiError: too much waits already, or the lane is closed.
        """
        done: Future[T] = Future()
        with self._change:
            if self._closed:
                raise ApiError(503, "The server is stopping.", code="server_stopping")
            if self._most_waiting is not None and self._idle == 0:
                self._queue = deque(item for item in self._queue if not item[1].cancelled())
                if len(self._queue) >= self._most_waiting:
                    raise self._full()
            self._queue.append((work, done))
            if self._idle >= len(self._queue):
                self._change.notify()
            elif self._threads < self._most_threads:
                self._threads += 1
                name = f"auris-{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return done

    async def run(self, work: Callable[[], T]) -> T:
        """Do work beside the event loop.

        Raises:
            ApiError: as of `submit`.
        """
        return await asyncio.wrap_future(self.submit(work))

    def close(self) -> None:
        """End the threads: work that waits is cancelled, work under way is not waited for."""
        with self._change:
            self._closed = True
            waiting = list(self._queue)
            self._queue.clear()
            self._change.notify_all()
        for _, done in waiting:
            done.cancel()

    def _full(self) -> ApiError:
        rounds = (len(self._queue) + 1) / self._most_threads
        least, most = RETRY_SECONDS
        wait = math.ceil(rounds * self._usual_seconds)
        return busy("Too many recordings wait to be read.", max(least, min(wait, most)))

    def _work(self) -> None:
        lower_this_thread(self._niceness)
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Do what waits next; False where the lane is closed."""
        item = self._next()
        if item is None:
            return False
        work, done = item
        if not done.set_running_or_notify_cancel():
            return True
        began = time.monotonic()
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)
        self._usual_seconds += 0.2 * (time.monotonic() - began - self._usual_seconds)
        return True

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._change:
            self._idle += 1
            self._change.wait_for(lambda: self._queue or self._closed)
            self._idle -= 1
            return self._queue.popleft() if self._queue else None


class Pools:
    """The lanes of a server.

    Attributes:
        quick: checks, database queries and whatever else takes milliseconds.
        short: reading recordings of up to `SHORT_SECONDS` to their end.
        long: reading longer ones.
        fetch: fetching recordings from the web.
        disk: writing recordings to the disk.
        calls: the pipelines of calls; how many run follows from the audio that is admitted.
    """

    def __init__(self) -> None:
        self.quick = Lane("quick", 8)
        self.short = Lane("short", 4, waiting=256, niceness=1)
        self.long = Lane("long", 2, waiting=64, niceness=10)
        self.fetch = Lane("fetch", 32, waiting=64, niceness=5)
        self.disk = Lane("disk", 2, waiting=64, niceness=5)
        self.calls = Lane("call", 1024)

    def close(self) -> None:
        """Close all of them."""
        for lane in (self.quick, self.short, self.long, self.fetch, self.disk, self.calls):
            lane.close()
