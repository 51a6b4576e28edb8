"""One engine, many callers: chunks of all of them share a batch.

A caller runs an ordinary pipeline in its own thread, whose batch is an `EngineBatch`. That queues
its chunks for the one thread that runs the model, so the text of a chunk is the same as in any
other batch.

Live streams are computed in the same thread, between two steps of the batch. They have a cache of
their own and do not wait for files.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from auris.errors import AurisError, EngineError
from auris.recognition.recognizer import ChunkBatch, Recognizer, recognize
from auris.recognition.requests import ChunkRequest, ChunkResult
from auris.server.engine_queue import CallerQueue, ChunkQueue, Deliver, Priority, Ticket
from auris.server.engine_time import Activity, TimeSheet
from auris.server.niceness import lower_this_thread
from auris.types import SAMPLE_RATE

__all__ = ["Engine", "EngineBatch", "Load"]

WATCH_SECONDS = 0.1
"""How often a caller that waits for results checks whether it still needs them."""

ENGINE_NICENESS = 2
"""Of an engine's thread: answers that need no engine come first."""


@dataclass(frozen=True)
class Load:
    """What an engine has done, and what it has to do.

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
        rows: most chunks of files in the batch at once.
    """

    def __init__(self, recognizer: Recognizer, rows: int) -> None:
        self.recognizer = recognizer
        self.rows = rows
        self._change = threading.Condition()
        self._queue = ChunkQueue()
        self._active: dict[int, Ticket] = {}
        self._stopping = threading.Event()
        self._audio_seconds = 0.0
        self._time = TimeSheet()
        self._live: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._thread = threading.Thread(target=self._run, name="auris-engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End; chunks in the batch end as they are, and those that wait are not begun."""
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
        """What there is to do, and what was done."""
        with self._change:
            return Load(
                len(self._queue),
                len(self._active),
                self._audio_seconds,
                self._time.seconds(Activity.FILES),
                self._time.seconds(Activity.LIVE),
            )

    def submit(
        self,
        request: ChunkRequest,
        priority: Priority,
        deliver: Deliver,
        caller: CallerQueue | None = None,
    ) -> None:
        """Queue a chunk.

        Args:
            request: its key is the caller's own.
            priority: whose turn comes first.
            deliver: called once, in the engine's thread, with the result, with what went wrong, or
                with None where the chunk was cancelled before its turn.
            caller: the queue of a caller with several chunks.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._change:
            if not self.running:
                raise _stopped()
            self._queue.put(request, priority, deliver, caller)
            self._change.notify_all()

    def between(self, job: Callable[[], None]) -> Future[None]:
        """Do something in the engine's thread before the next step of any file.

        Raises:
            EngineError: the engine has stopped.
        """
        done: Future[None] = Future()
        with self._change:
            if not self.running:
                raise _stopped()
            self._live.append((job, done))
            self._change.notify_all()
        return done

    def _run(self) -> None:
        lower_this_thread(ENGINE_NICENESS)
        while self._wait_for_work():
            batch = self.recognizer.batch(self.rows)
            try:
                self._run_batch(batch)
            except Exception as error:
                self._retry_alone(error)
            self._time.begin(Activity.IDLE)
        self._close()

    def _wait_for_work(self) -> bool:
        """Wait for something to do; false once the engine stops."""
        with self._change:
            self._change.wait_for(
                lambda: len(self._queue) > 0 or bool(self._live) or self._stopping.is_set()
            )
        return not self._stopping.is_set()

    def _run_batch(self, batch: ChunkBatch) -> None:
        """Work until there is nothing to do. The batch, and with it its cache, is then dropped."""
        while not self._stopping.is_set():
            self._run_live()
            self._time.begin(Activity.FILES)
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
        """The work of live streams that has come; what comes meanwhile is done next time."""
        with self._change:
            jobs = list(self._live)
            self._live.clear()
        if jobs:
            self._time.begin(Activity.LIVE)
        for job, done in jobs:
            if not done.set_running_or_notify_cancel():
                continue
            try:
                job()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _next(self) -> Ticket | None:
        """The next chunk that somebody still waits for."""
        with self._change:
            while (ticket := self._queue.first()) is not None:
                self._queue.take(ticket)
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
            outcome: ChunkResult | Exception = error
            if len(tickets) > 1:
                outcome = self._alone(ticket)
            self._finish(ticket.number, outcome)

    def _alone(self, ticket: Ticket) -> ChunkResult | Exception:
        try:
            return recognize(self.recognizer, replace(ticket.request, key=ticket.number))
        except Exception as error:
            return error

    def _close(self) -> None:
        """Nobody waits for an engine that has stopped."""
        with self._change:
            waiting = [*self._active.values(), *self._queue]
            live = list(self._live)
            self._live.clear()
            self._active.clear()
            self._queue.clear()
        for ticket in waiting:
            ticket.deliver(None)
        for _, done in live:
            if done.set_running_or_notify_cancel():
                done.set_exception(_stopped())


class EngineBatch:
    """A caller's chunks in an engine that others use, too.

    A caller that cancels does not wait: its chunks leave the engine's batch without a result.

    Args:
        engine: does the work.
        priority: of these chunks.
        rows: most chunks that wait or are in the engine's batch.
    """

    def __init__(self, engine: Engine, priority: Priority, rows: int) -> None:
        self._engine = engine
        self._priority = priority
        self._rows = rows
        self._results: SimpleQueue[ChunkResult | Exception | None] = SimpleQueue()
        self._queue = CallerQueue()
        self._cancelled = threading.Event()
        self._pending = 0

    @property
    def pending(self) -> int:
        """See `ChunkBatch.pending`."""
        return self._pending

    def has_room(self) -> bool:
        """See `ChunkBatch.has_room`."""
        return self._pending < self._rows

    def add(self, request: ChunkRequest) -> None:
        """See `ChunkBatch.add`.

        Raises:
            EngineError: the engine has stopped.
        """
        request = replace(request, cancelled=self._cancelled.is_set)
        self._engine.submit(request, self._priority, self._results.put, self._queue)
        self._pending += 1

    def step(self) -> list[ChunkResult]:
        """See `ChunkBatch.step`: wait a moment for a result.

        Raises:
            AurisError: the chunk failed.
            EngineError: the engine has stopped, or met a fault of the program.
        """
        try:
            result = self._results.get(timeout=WATCH_SECONDS)
        except Empty:
            return []
        self._pending -= 1
        if result is None:
            raise _stopped()
        if isinstance(result, AurisError):
            raise result
        if isinstance(result, Exception):
            raise EngineError(
                "Recognition has to end with a text",
                f"the program failed ({type(result).__name__})",
                "report it with the log of the server",
            ) from result
        return [result]

    def cancel(self) -> list[ChunkResult]:
        """See `ChunkBatch.cancel`; the chunks have no result."""
        self._cancelled.set()
        self._pending = 0
        return []


def _stopped() -> EngineError:
    return EngineError(
        "An engine has to run to recognize anything", "it has stopped", "start the server again"
    )
