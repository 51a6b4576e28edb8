"""Threads outside the event loop: a lane for each kind of work, so that cheap work never waits for
expensive work.

The cost of decoding an upload is not known in advance. Every upload begins in the first of the
decoding lanes, with little computing time. What is not finished by then begins again in the next
lane, with ten times as much. So the work that an upload waits for has a limited cost, and work that
is repeated is a small share. Within a lane clients take turns.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from starlette.types import Receive

from auris.server.errors import ClientDisconnected, busy, server_stopping

T = TypeVar("T")

SIZE_RATE, MOST_DELAY_SECONDS = 1e6, 10.0
"""An upload is treated as if it had arrived later, by a second for each megabyte up to this limit,
since the time to decode it grows with its size."""


class Lane:
    """Threads that do one kind of work. Clients take turns. The work of each client is done in the
    order in which it comes, but what is large gives way to what is small.

    Args:
        name: of the threads.
        threads: maximum number; they are started when they are needed.
        waiting: maximum number of waiting functions; None for no limit.
        niceness: of the threads and of processes that they start.
        turn_seconds: computing time that decoding an upload gets here.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        waiting: float = float("inf"),
        niceness: int = 0,
        turn_seconds: float = float("inf"),
    ) -> None:
        self.turn_seconds = turn_seconds
        self._executor = ThreadPoolExecutor(
            threads, f"auris-{name}", lower_this_thread, (niceness,)
        )
        self._threads = threads
        self._most_unfinished = threads + waiting
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[float, int, Future[Any], Callable[[], Any]]]] = {}
        self._numbers = itertools.count()
        self._unfinished = 0
        self._began: dict[Future[Any], float] = {}
        self._closed = False
        self._usual_seconds = 1.0

    def submit(self, work: Callable[[], T], client: str = "", size: int = 0) -> Future[T]:
        """Queue work in the turn of a client; cancelling the future before its turn removes it.

        Args:
            size: bytes of an upload; a larger one of a client is treated as if it came later.

        Raises:
            ApiError: too much waits already, or the lane is closed.
        """
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise server_stopping()
            if self._unfinished >= self._most_unfinished:
                rounds = (self._unfinished - self._threads + 1) / self._threads
                seconds = rounds * self._expected_seconds()
                raise busy("Too many recordings wait to be read.", seconds)
            due = time.monotonic() + min(size / SIZE_RATE, MOST_DELAY_SECONDS)
            # The context has the request for which the work is done.
            bound: Callable[[], Any] = partial(copy_context().run, work)
            entry = (due, next(self._numbers), done, bound)
            heapq.heappush(self._waiting.setdefault(client, []), entry)
            self._executor.submit(self._run_next)
            self._unfinished += 1
        done.add_done_callback(self._finished)
        return done

    async def run(self, work: Callable[[], T]) -> T:
        """Do work outside the event loop; see `submit`."""
        return await asyncio.wrap_future(self.submit(work))

    def close(self) -> None:
        """Cancel work that waits; work that has begun is not waited for."""
        with self._lock:
            self._closed = True
            waiting = [done for queue in self._waiting.values() for _, _, done, _ in queue]
        self._executor.shutdown(wait=False, cancel_futures=True)
        for done in waiting:
            done.cancel()

    def _run_next(self) -> None:
        with self._lock:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            _, _, done, work = heapq.heappop(queue)
            if queue:
                self._waiting[client] = queue  # Behind all other clients.
        if not done.set_running_or_notify_cancel():
            return
        with self._lock:
            self._began[done] = time.monotonic()
        try:
            result = work()
        except BaseException as error:  # Whoever waits for the result gets it.
            self._note_time(done)
            done.set_exception(error)
        else:
            self._note_time(done)
            done.set_result(result)
        # The traceback of an error has this frame, so the error would hold itself.
        del done, work

    def _note_time(self, done: Future[Any]) -> None:
        with self._lock:
            seconds = time.monotonic() - self._began.pop(done)
            self._usual_seconds += 0.2 * (seconds - self._usual_seconds)

    def _expected_seconds(self) -> float:
        """Expected time of work: not less than the time of the running work so far."""
        now = time.monotonic()
        running = sum(now - began for began in self._began.values()) / max(len(self._began), 1)
        return max(self._usual_seconds, running)

    def _finished(self, done: Future[Any]) -> None:
        with self._lock:
            self._unfinished -= 1


class Pools:
    """The lanes of a server.

    Attributes:
        quick: checks, database queries and other work of milliseconds.
        decoding: decoding uploads, expensive ones in later lanes.
        fetch: downloading recordings.
        disk: writing recordings to the disk.
        calls: the pipelines of calls; the audio that is admitted limits their number.
    """

    def __init__(self) -> None:
        self.quick = Lane("quick", 8)
        self.decoding = (
            Lane("decode1", 4, waiting=256, niceness=1, turn_seconds=0.1),
            Lane("decode2", 2, waiting=64, niceness=6, turn_seconds=1.0),
            Lane("decode3", 2, waiting=64, niceness=10, turn_seconds=10.0),
            Lane("decode4", 2, waiting=64, niceness=14),
        )
        self.fetch = Lane("fetch", 32, waiting=64, niceness=5)
        self.disk = Lane("disk", 2, waiting=64, niceness=5)
        self.calls = Lane("call", 1024)

    def close(self) -> None:
        """Close all of them."""
        for lane in (self.quick, *self.decoding, self.fetch, self.disk, self.calls):
            lane.close()


def lower_this_thread(niceness: int) -> None:
    """Lower the priority of the calling thread, and of processes that it starts, on Linux; other
    systems have no priorities of threads. A niceness of 0 changes nothing."""
    if sys.platform == "linux" and niceness:
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(now + niceness, 19))


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client closes the connection, of which everything else has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(
    receive: Receive, work: Future[T], cancel: Callable[[], None] = lambda: None
) -> T:
    """The result of work in a lane, which is given up when its client disconnects.

    Args:
        receive: of the client's connection.
        work: cancelled when the client disconnects, so that it does not begin.
        cancel: called when the result is no longer waited for, so that work under way ends.

    Raises:
        ClientDisconnected: the client has disconnected.
    """
    result = asyncio.wrap_future(work)
    # The event loop must not log an error whose client has disconnected.
    result.add_done_callback(lambda done: done.cancelled() or done.exception())
    disconnect = asyncio.ensure_future(wait_for_disconnect(receive))
    either: set[asyncio.Future[Any]] = {result, disconnect}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientDisconnected
    finally:
        disconnect.cancel()
        if not result.done():
            cancel()
            work.cancel()
            result.cancel()
