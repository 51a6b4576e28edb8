"""One engine, many callers: pieces of all of them share a batch.

A caller runs an ordinary pipeline in a thread of its own, over a `SharedRecognizer`. That hands its
pieces to the one thread that runs the model, which takes them up as rows become free. So a text is
the same as in any other batch, and whatever a pipeline does around a recognizer it does here, too.

Live streams are computed in the same thread, between two steps of the batch: they have a cache of
their own, and do not wait for files.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from auris.attempts import Attempt
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.errors import AurisError, EngineError
from auris.pieces import Options, Piece, Recognized
from auris.recognizers import Recognizer
from auris.server.engine_queue import Deliver, Lineup, PieceQueue, Priority, Ticket
from auris.server.engine_time import Activity, TimeSheet
from auris.server.niceness import lower_this_thread
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, Segment

__all__ = ["Engine", "Load", "SharedRecognizer"]

WATCH_SECONDS = 0.1
"""How often a caller that waits for the engine asks whether it is still wanted."""


ENGINE_NICENESS = 2
"""Of an engine's thread: answers that need no engine come first."""

Work = tuple[Callable[[], None], "Future[None]"]


@dataclass(frozen=True)
class Load:
    """What an engine has done, and what it has to do.

    Attributes:
        waiting: pieces in the queue.
        under_way: pieces in the batch.
        audio_seconds: audio of files recognized so far.
        busy_seconds: time spent on files, up to now.
        live_seconds: time spent on live streams, up to now.
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
        self._queue = PieceQueue()
        self._under_way: dict[int, Ticket] = {}
        self._stopping = threading.Event()
        self._audio_seconds = 0.0
        self._time = TimeSheet()
        self._live: deque[Work] = deque()
        self._beside: deque[Work] = deque()
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
                self._time.seconds(Activity.FILES),
                self._time.seconds(Activity.LIVE),
            )

    def submit(
        self, piece: Piece, priority: Priority, deliver: Deliver, lineup: Lineup | None = None
    ) -> None:
        """Queue a piece.

        Args:
            piece: its key is the caller's own.
            priority: whose turn comes first.
            deliver: called once, in the engine's thread, with the result, with what went wrong, or
                with None where the piece was cancelled before its turn.
            lineup: of a caller with several pieces.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._change:
            if not self.running:
                raise _gone()
            self._queue.put(piece, priority, deliver, lineup)
            self._change.notify_all()

    def between(self, job: Callable[[], None]) -> Future[None]:
        """Do something for a live stream in the engine's thread, before the next step of any file.

        Raises:
            EngineError: the engine has stopped.
        """
        return self._add(self._live, job)

    def beside(self, job: Callable[[], None]) -> Future[None]:
        """Do something for a file in the engine's thread; one such thing between two steps.

        Raises:
            EngineError: the engine has stopped.
        """
        return self._add(self._beside, job)

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs in the engine's thread."""
        return threading.current_thread() is self._thread

    def _add(self, works: deque[Work], job: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        with self._change:
            if not self.running:
                raise _gone()
            works.append((job, done))
            self._change.notify_all()
        return done

    def _run(self) -> None:
        lower_this_thread(ENGINE_NICENESS)
        while self._work_arrived():
            self._do_live()
            self._time.begin(Activity.FILES)
            try:
                for result in self.recognizer.recognize(
                    self._at_hand(), self.rows + 1, self._stopping.is_set
                ):
                    self._finish(result.key, result)
            except Exception as error:
                self._rescue(error)
            self._time.begin(Activity.IDLE)
        with self._change:
            left = [*self._under_way.values(), *self._queue]
            jobs = [*self._live, *self._beside]
            self._under_way.clear()
            self._queue.clear()
            self._live.clear()
            self._beside.clear()
        for ticket in left:
            ticket.deliver(None)
        for _, done in jobs:
            if done.set_running_or_notify_cancel():
                done.set_exception(_gone())

    def _do_live(self) -> None:
        """All that live streams want now."""
        with self._change:
            works = list(self._live)
            self._live.clear()
        if works:
            self._time.begin(Activity.LIVE)
            for work in works:
                _do(*work)
            self._time.begin(Activity.FILES)

    def _do_one_beside(self) -> None:
        with self._change:
            work = self._beside.popleft() if self._beside else None
        if work is not None:
            _do(*work)

    def _work_arrived(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._change:
            self._change.wait_for(
                lambda: (
                    len(self._queue) > 0
                    or bool(self._live or self._beside)
                    or self._stopping.is_set()
                )
            )
        return not self._stopping.is_set()

    def _at_hand(self) -> Iterator[Piece | None]:
        """Pieces as their turns come; None where none waits, and an end where none is under way.

        The end lets go of the batch's cache while there is nothing to do.
        """
        while True:
            self._do_live()
            self._do_one_beside()
            ticket = self._next()
            if ticket is not None:
                yield replace(ticket.piece, key=ticket.number)
            elif self._under_way:
                yield None
            else:
                return

    def _next(self) -> Ticket | None:
        with self._change:
            while (first := self._queue.first()) is not None:
                wanted = not first.piece.cancelled()
                if wanted and len(self._under_way) >= self.rows:
                    return None
                self._queue.take(first)
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

    def _alone(self, ticket: Ticket) -> Recognized | Exception:
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
        lineup = Lineup()
        given = 0
        try:
            while not unwanted():
                for piece in itertools.islice(waiting, rows - given):
                    wanted = replace(piece, cancelled=unwanted)
                    self.engine.submit(wanted, self.priority, results.put, lineup)
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


def _do(job: Callable[[], None], done: Future[None]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        job()
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(None)


def _gone() -> EngineError:
    return EngineError(
        "An engine has to run to recognize anything", "it has stopped", "start the server again"
    )
