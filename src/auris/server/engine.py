"""One engine, many callers: chunks of all of them share a batch.

A caller runs an ordinary pipeline in its own thread, whose batch is an `EngineBatch`. That queues
its chunks for the one thread that runs the model, so the text of a chunk is the same as in any
other batch.

Live streams are computed in the same thread, between two steps of the batch. They have a cache of
their own and do not wait for files.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import IntEnum
from queue import Empty, SimpleQueue

from auris.errors import AurisError, EngineError
from auris.recognition.recognizer import ChunkBatch, Recognizer, recognize
from auris.recognition.requests import ChunkRequest, ChunkResult
from auris.server.pools import lower_this_thread
from auris.types import SAMPLE_RATE

WATCH_SECONDS = 0.1
"""How often a caller that waits for results checks whether it still needs them."""

ENGINE_NICENESS = 2
"""Niceness of the engine's thread: answers that need no engine have priority."""

SHORT_IN_A_ROW = 7
"""Chunks of short recordings that are taken one after the other while a longer one waits."""

Deliver = Callable[[ChunkResult | Exception | None], None]
"""Called with the result of a chunk, its error, or None if it was cancelled before its turn."""


class Priority(IntEnum):
    """Kinds of callers, the first one first.

    Attributes:
        SHORT: calls with short recordings, see `auris.server.admission.SHORT_SECONDS`.
        FILE: calls with longer ones.
        JOB: jobs.
    """

    SHORT = 0
    FILE = 1
    JOB = 2


@dataclass
class CallerQueue:
    """The chunks of one caller, by the round of the next one."""

    next_round: int = 0


@dataclass(order=True)
class Ticket:
    """A chunk that waits for its turn or is in the batch.

    Attributes:
        round: chunks of one caller are in successive rounds; earlier rounds are taken first.
        number: order of arrival, and the key of the chunk in the engine's batch.
    """

    round: int
    number: int
    priority: Priority = field(compare=False)
    request: ChunkRequest = field(compare=False)
    deliver: Deliver = field(compare=False)


class ChunkQueue:
    """Chunks that wait. Not safe for several threads; the engine has a lock.

    Callers of one priority take turns, chunk by chunk, so one that has many chunks does not make
    another one wait for all of them. Longer recordings get every eighth turn, at least, while
    short ones come without end; jobs wait for both.
    """

    def __init__(self) -> None:
        self._waiting: dict[Priority, list[Ticket]] = {kind: [] for kind in Priority}
        self._rounds = dict.fromkeys(Priority, 0)
        self._numbers = itertools.count()
        self._short_in_a_row = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(
        self, request: ChunkRequest, priority: Priority, deliver: Deliver, caller: CallerQueue
    ) -> None:
        """Add a chunk."""
        turn = max(caller.next_round, self._rounds[priority])
        caller.next_round = turn + 1
        ticket = Ticket(turn, next(self._numbers), priority, request, deliver)
        heapq.heappush(self._waiting[priority], ticket)

    def pop(self) -> Ticket | None:
        """Remove the chunk whose turn is next; None where none waits."""
        order = [kind for kind in Priority if self._waiting[kind]]
        if not order:
            return None
        if order[:2] == [Priority.SHORT, Priority.FILE] and self._short_in_a_row >= SHORT_IN_A_ROW:
            order.pop(0)
        ticket = heapq.heappop(self._waiting[order[0]])
        self._rounds[ticket.priority] = ticket.round
        is_short = ticket.priority is Priority.SHORT
        self._short_in_a_row = self._short_in_a_row + 1 if is_short else 0
        return ticket


@dataclass(frozen=True)
class Load:
    """The present load of an engine, and its totals.

    Attributes:
        waiting: chunks in the queue.
        active: chunks in the batch.
        audio_seconds: audio of files recognized so far.
        busy_seconds: time spent on files, up to now.
        live_seconds: time spent on live streams, up to now.
    """

    waiting: int
    active: int
    audio_seconds: float
    busy_seconds: float
    live_seconds: float


class Engine:
    """The thread that runs a model.

    Args:
        recognizer: the model.
        rows: maximum number of chunks of files in the batch.
    """

    def __init__(self, recognizer: Recognizer, rows: int) -> None:
        self.recognizer = recognizer
        self.rows = rows
        self._change = threading.Condition()
        self._queue = ChunkQueue()
        self._active: dict[int, Ticket] = {}
        self._live: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._stopping = threading.Event()
        self._audio_seconds = 0.0
        self._seconds = {"idle": 0.0, "files": 0.0, "live": 0.0}
        self._activity, self._since = "idle", time.perf_counter()
        self._thread = threading.Thread(target=self._run, name="auris-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; chunks in the batch end as they are, waiting ones are not begun."""
        self._stopping.set()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether chunks are taken."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def load(self) -> Load:
        """The present load, and the totals so far."""
        with self._change:
            self._begin(self._activity)
            files, live = self._seconds["files"], self._seconds["live"]
            return Load(len(self._queue), len(self._active), self._audio_seconds, files, live)

    def submit(
        self,
        request: ChunkRequest,
        priority: Priority,
        deliver: Deliver,
        caller: CallerQueue | None = None,
    ) -> None:
        """Queue a chunk; `deliver` is called once, in the engine's thread.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._change:
            if not self.running:
                raise _stopped()
            self._queue.put(request, priority, deliver, caller or CallerQueue())
            self._change.notify_all()

    def between(self, work: Callable[[], None]) -> Future[None]:
        """Do something in the engine's thread before the next step of any file.

        Raises:
            EngineError: the engine has stopped.
        """
        done: Future[None] = Future()
        with self._change:
            if not self.running:
                raise _stopped()
            self._live.append((work, done))
            self._change.notify_all()
        return done

    def _begin(self, activity: str) -> None:
        """Account for the time since the last call; holds the lock."""
        now = time.perf_counter()
        self._seconds[self._activity] += now - self._since
        self._activity, self._since = activity, now

    def _run(self) -> None:
        lower_this_thread(ENGINE_NICENESS)
        while self._wait_for_work():
            batch = self.recognizer.batch(self.rows)
            try:
                self._run_batch(batch)
            except Exception as error:  # A fault in one chunk; the thread serves all callers.
                self._retry_alone(error)
        self._close()

    def _wait_for_work(self) -> bool:
        """Wait for something to do; false once the engine stops."""
        with self._change:
            self._begin("idle")
            self._change.wait_for(
                lambda: len(self._queue) > 0 or bool(self._live) or self._stopping.is_set()
            )
        return not self._stopping.is_set()

    def _run_batch(self, batch: ChunkBatch) -> None:
        """Work until there is nothing to do. The batch, and with it its cache, is then dropped."""
        while not self._stopping.is_set():
            self._run_live()
            while batch.has_room() and len(self._active) < self.rows:
                ticket = self._next()
                if ticket is None:
                    break
                batch.add(replace(ticket.request, key=ticket.number))
            if not batch.pending:
                return
            for result in batch.step():
                self._finish(result.key, result)
        for result in batch.cancel():
            self._finish(result.key, result)

    def _run_live(self) -> None:
        """Do the work of live streams that is waiting; what comes meanwhile is done next time."""
        with self._change:
            waiting = list(self._live)
            self._live.clear()
            self._begin("live" if waiting else "files")
        for work, done in waiting:
            if not done.set_running_or_notify_cancel():
                continue
            try:
                work()
            except Exception as error:  # Raised again by whoever waits.
                done.set_exception(error)
            else:
                done.set_result(None)
        with self._change:
            self._begin("files")

    def _next(self) -> Ticket | None:
        """The next chunk that was not cancelled."""
        with self._change:
            while (ticket := self._queue.pop()) is not None:
                if not ticket.request.cancelled():
                    self._active[ticket.number] = ticket
                    return ticket
                ticket.deliver(None)
        return None

    def _finish(self, number: int, result: ChunkResult | Exception) -> None:
        with self._change:
            ticket = self._active.pop(number)
            self._audio_seconds += len(ticket.request.chunk.samples) / SAMPLE_RATE
        if isinstance(result, ChunkResult):
            result = replace(result, key=ticket.request.key)
        ticket.deliver(result)

    def _retry_alone(self, error: Exception) -> None:
        """After a failure: recognize the chunks of the batch one by one; only its cause fails."""
        tickets = list(self._active.values())
        for ticket in tickets:
            result: ChunkResult | Exception = error
            if len(tickets) > 1:
                request = replace(ticket.request, key=ticket.number)
                try:
                    result = recognize(self.recognizer, request)
                except Exception as own_error:  # Raised again by the caller, see `step`.
                    result = own_error
            self._finish(ticket.number, result)

    def _close(self) -> None:
        """End everything that waits for the engine."""
        with self._change:
            tickets = list(self._active.values())
            while (ticket := self._queue.pop()) is not None:
                tickets.append(ticket)
            live = list(self._live)
            self._live.clear()
            self._active.clear()
        for ticket in tickets:
            ticket.deliver(None)
        for _, done in live:
            if done.set_running_or_notify_cancel():
                done.set_exception(_stopped())


class EngineBatch:
    """A `ChunkBatch` of one caller, in an engine that others use, too.

    A caller that cancels does not wait: its chunks leave the engine's batch without a result.

    Args:
        engine: does the work.
        priority: of these chunks.
        rows: maximum number of chunks that wait or are in the engine's batch.
    """

    def __init__(self, engine: Engine, priority: Priority, rows: int) -> None:
        self.pending = 0
        self._engine = engine
        self._priority = priority
        self._rows = rows
        self._results: SimpleQueue[ChunkResult | Exception | None] = SimpleQueue()
        self._queue = CallerQueue()
        self._cancelled = threading.Event()

    def has_room(self) -> bool:
        """Whether another chunk may be added."""
        return self.pending < self._rows

    def add(self, request: ChunkRequest) -> None:
        """Queue a chunk in the engine."""
        request = replace(request, cancelled=self._cancelled.is_set)
        self._engine.submit(request, self._priority, self._results.put, self._queue)
        self.pending += 1

    def step(self) -> list[ChunkResult]:
        """Wait for a result, for a moment.

        Raises:
            AurisError: the chunk failed, or the engine has stopped.
        """
        try:
            result = self._results.get(timeout=WATCH_SECONDS)
        except Empty:
            return []
        self.pending -= 1
        if result is None:
            raise _stopped()
        if isinstance(result, AurisError):
            raise result
        if isinstance(result, Exception):
            raise EngineError(
                f"Recognition failed ({type(result).__name__})",
                "",
                "report it with the log of the server",
            ) from result
        return [result]

    def cancel(self) -> list[ChunkResult]:
        """Give up all chunks; none has a result."""
        self._cancelled.set()
        self.pending = 0
        return []


def _stopped() -> EngineError:
    return EngineError("The recognition engine has stopped", "", "start the server again")
