"""One engine, many callers: pieces of all of them share a batch.

A caller runs an ordinary pipeline in a thread of its own, over a `SharedRecognizer`. That hands its
pieces to the one thread that runs the model, which takes them up as rows become free. So a text is
the same as in any other batch, and whatever a pipeline does around a recognizer it does here, too.

Live streams are computed in the same thread, between two steps of the batch: they have a cache of
their own, and do not wait for files.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import IntEnum
from queue import Empty, SimpleQueue

from auris.attempts import Attempt
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.errors import AurisError, EngineError
from auris.pieces import Options, Piece, Recognized
from auris.recognizers import Recognizer
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, Segment

__all__ = ["Engine", "Load", "Priority", "SharedRecognizer"]

WATCH_SECONDS = 0.1
"""How often a caller that waits for the engine asks whether it is still wanted."""


class Priority(IntEnum):
    """Whose pieces come first."""

    FILE = 0
    JOB = 1


@dataclass(order=True)
class _Ticket:
    """A piece that waits for its turn or is under way."""

    priority: Priority
    number: int
    piece: Piece = field(compare=False)
    deliver: Callable[[Recognized | Exception | None], None] = field(compare=False)


@dataclass(frozen=True)
class Load:
    """What an engine has done, and what it has to do.

    Attributes:
        waiting: pieces in the queue.
        under_way: pieces in the batch.
        audio_seconds: audio of files recognized so far.
        busy_seconds: time spent on it.
        live_seconds: time spent on live streams.
    """

    waiting: int
    under_way: int
    audio_seconds: float
    busy_seconds: float
    live_seconds: float


class Engine:
    """The thread that runs a model.

    One row more than `rows` stays free: a recognizer asks for pieces only while a row is, and live
    streams are computed whenever it asks. (A piece that is decoded anew in parts takes two rows;
    while such parts fill the batch, streams wait for the first of them to end.)

    Args:
        recognizer: the model.
        rows: most pieces of files in the batch at once.
    """

    def __init__(self, recognizer: Recognizer, rows: int) -> None:
        self.recognizer = recognizer
        self.rows = rows
        self._change = threading.Condition()
        self._queue: list[_Ticket] = []
        self._under_way: dict[int, _Ticket] = {}
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._audio_seconds = 0.0
        self._busy_seconds = 0.0
        self._live: list[tuple[Callable[[], None], Future[None]]] = []
        self._live_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="auris-engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End; pieces under way end as they are, and those that wait are not begun."""
        self._stopping.set()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether pieces are taken."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def load(self) -> Load:
        """What there is to do, and what was done."""
        with self._change:
            return Load(
                len(self._queue),
                len(self._under_way),
                self._audio_seconds,
                self._busy_seconds,
                self._live_seconds,
            )

    def submit(
        self,
        piece: Piece,
        priority: Priority,
        deliver: Callable[[Recognized | Exception | None], None],
    ) -> None:
        """Queue a piece.

        Args:
            piece: its key is the caller's own.
            priority: whose turn comes first.
            deliver: called once, in the engine's thread, with the result, with what went wrong, or
                with None where the piece was cancelled before its turn.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._change:
            if not self.running:
                raise _gone()
            heapq.heappush(self._queue, _Ticket(priority, next(self._numbers), piece, deliver))
            self._change.notify_all()

    def between(self, job: Callable[[], None]) -> Future[None]:
        """Do something in the engine's thread before the next step of any file.

        Raises:
            EngineError: the engine has stopped.
        """
        done: Future[None] = Future()
        with self._change:
            if not self.running:
                raise _gone()
            self._live.append((job, done))
            self._change.notify_all()
        return done

    def _run(self) -> None:
        while self._work_arrived():
            self._do_live()
            began, live = time.perf_counter(), self._live_seconds
            try:
                for result in self.recognizer.recognize(
                    self._at_hand(), self.rows + 1, self._stopping.is_set
                ):
                    self._finish(result.key, result)
            except Exception as error:
                self._rescue(error)
            with self._change:
                meanwhile = self._live_seconds - live
                self._busy_seconds += time.perf_counter() - began - meanwhile
        with self._change:
            left, jobs = [*self._under_way.values(), *self._queue], self._live
            self._under_way.clear()
            self._queue.clear()
            self._live = []
        for ticket in left:
            ticket.deliver(None)
        for _, done in jobs:
            if done.set_running_or_notify_cancel():
                done.set_exception(_gone())

    def _do_live(self) -> None:
        """All that live streams want now."""
        with self._change:
            jobs, self._live = self._live, []
        began = time.perf_counter()
        for job, done in jobs:
            if not done.set_running_or_notify_cancel():
                continue
            try:
                job()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)
        if jobs:
            with self._change:
                self._live_seconds += time.perf_counter() - began

    def _work_arrived(self) -> bool:
        """Wait for a piece; False at the end."""
        with self._change:
            self._change.wait_for(lambda: self._queue or self._live or self._stopping.is_set())
        return not self._stopping.is_set()

    def _at_hand(self) -> Iterator[Piece | None]:
        """Pieces as their turns come; None where none waits, and an end where none is under way.

        The end lets go of the batch's cache while there is nothing to do.
        """
        while True:
            self._do_live()
            ticket = self._next()
            if ticket is not None:
                yield replace(ticket.piece, key=ticket.number)
            elif self._under_way:
                yield None
            else:
                return

    def _next(self) -> _Ticket | None:
        with self._change:
            while self._queue:
                first = self._queue[0]
                wanted = not first.piece.cancelled()
                if wanted and len(self._under_way) >= self.rows:
                    return None
                heapq.heappop(self._queue)
                if wanted:
                    self._under_way[first.number] = first
                    return first
                first.deliver(None)
        return None

    def _finish(self, number: int, result: Recognized | Exception) -> None:
        with self._change:
            ticket = self._under_way.pop(number)
            self._audio_seconds += len(ticket.piece.chunk.samples) / SAMPLE_RATE
        if isinstance(result, Recognized):
            result = replace(result, key=ticket.piece.key)
        ticket.deliver(result)

    def _rescue(self, error: Exception) -> None:
        """After a failure: recognize what was under way one by one; only its cause fails again."""
        tickets = list(self._under_way.values())
        for ticket in tickets:
            outcome: Recognized | Exception = error
            if len(tickets) > 1:
                outcome = self._alone(ticket)
            self._finish(ticket.number, outcome)

    def _alone(self, ticket: _Ticket) -> Recognized | Exception:
        piece = replace(ticket.piece, key=ticket.number)
        try:
            (result,) = self.recognizer.recognize([piece], 1, self._stopping.is_set)
        except Exception as error:
            return error
        return result


class SharedRecognizer:
    """A recognizer for one kind of caller, over an engine that others use as well.

    Args:
        engine: does the work.
        priority: of the pieces that go through this one.
    """

    def __init__(self, engine: Engine, priority: Priority) -> None:
        self.engine = engine
        self.priority = priority

    @property
    def config(self) -> AutCtcConfig | QwenAsrConfig:
        """The model's shapes."""
        return self.engine.recognizer.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""
        return self.engine.recognizer.tokenizer

    def check(self, options: Options) -> None:
        """See `Recognizer.check`."""
        self.engine.recognizer.check(options)

    def recognize(
        self, pieces: Iterable[Piece | None], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`; `rows` is how many pieces may wait or be under way.

        Whoever cancels does not wait: pieces under way leave the batch, and have no result.

        Raises:
            EngineError: the engine has stopped, or met a fault of the program.
        """
        results: SimpleQueue[Recognized | Exception | None] = SimpleQueue()
        left = threading.Event()

        def unwanted() -> bool:
            return left.is_set() or cancelled()

        waiting = (piece for piece in pieces if piece is not None)
        given = 0
        try:
            while not unwanted():
                for piece in itertools.islice(waiting, rows - given):
                    wanted = replace(piece, cancelled=unwanted)
                    self.engine.submit(wanted, self.priority, results.put)
                    given += 1
                if given == 0:
                    return
                result = self._awaited(results, unwanted)
                if result is None:
                    return
                given -= 1
                yield result
        finally:
            left.set()

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`; it is done in the caller's own thread."""
        return self.engine.recognizer.provisional(attempt)

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`; it is done in the caller's own thread."""
        return self.engine.recognizer.commit(attempt)

    def _awaited(
        self,
        results: SimpleQueue[Recognized | Exception | None],
        unwanted: Callable[[], bool],
    ) -> Recognized | None:
        """The next result; None where it is no longer wanted."""
        while not unwanted():
            try:
                result = results.get(timeout=WATCH_SECONDS)
            except Empty:
                continue
            if result is None and not unwanted():
                raise _gone()
            if isinstance(result, AurisError):
                raise result
            if isinstance(result, Exception):
                raise EngineError(
                    "Recognition has to end with a text",
                    f"the program failed ({type(result).__name__})",
                    "report it with the log of the server",
                ) from result
            return result
        return None


def _gone() -> EngineError:
    return EngineError(
        "An engine has to run to recognize anything", "it has stopped", "start the server again"
    )
