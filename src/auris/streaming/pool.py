"""Streams that share one model: their steps and searches, by turns.

Steps that are due at the same time run as one batch. Searches run as another one, a pass at a time
where steps are due meanwhile, so that partial text does not wait for them. Where both have more to
do than there is time, each gets half of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from auris.audio.pauses import FIRST_PAUSE_SECONDS
from auris.audio.segmentation import Cutter
from auris.errors import AurisError, UsageError
from auris.recognition.qwen import needs_search
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import DecodeOptions
from auris.streaming.chunker import StreamChunker
from auris.streaming.decoder import StreamStep, incremental_recognizer
from auris.streaming.searches import Search, SearchQueue, SearchResult
from auris.streaming.session import StreamSession, StreamUpdate
from auris.streaming.settle import SETTLE_SECONDS, settle_rule
from auris.streaming.speakers import StreamSpeakers
from auris.types import SAMPLE_RATE

STEP_SECONDS = 0.5
"""Default time between steps."""

LIVE_CHUNK_SECONDS = 8.0
"""Default length of the chunks of a stream; that of a model may be shorter."""

MOST_OWED = 0.5
"""Seconds that searches may be owed while streams that have shown no text go first."""

Submit = Callable[[Callable[[], None]], "Future[None]"]
"""Runs a function in a thread, one after the other."""


class StreamPool:
    """Streams that share one model; steps that are due at the same time run as one batch.

    Safe to use from several threads; each stream from one at a time.

    Args:
        streams: maximum number of open streams.
        submit: runs a function in a thread of the caller, one after the other; by default the pool
            starts a thread of its own when it needs one.
        clock: the time in seconds.

    Attributes:
        submit: runs a function in the thread of the pool, one after the other. It does not wait for
            a step, so an event loop may call it.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        streams: int = 8,
        submit: Submit | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.recognizer = recognizer
        self._incremental = incremental_recognizer(recognizer, streams)
        self._streams = streams
        self._sessions: list[StreamSession] = []
        self._searches = SearchQueue(recognizer)
        self._clock = clock
        self._owed = 0.0  # Seconds that searches get before the next steps.
        self._lock = threading.Lock()  # Held during a round.
        self.submit: Submit = submit or ThreadPoolExecutor(1, "auris-streams").submit
        self._driver = threading.RLock()
        self._watched: set[StreamSession] = set()
        self._driving = False  # Whether a round is under way, and
        self._again = False  # whether another one is needed.

    def open(
        self,
        options: DecodeOptions | None = None,
        *,
        rate: int = SAMPLE_RATE,
        chunk_seconds: float | None = None,
        end_at_pauses: bool = True,
        step_seconds: float = STEP_SECONDS,
        partial_text: bool = True,
        skip_late: bool = False,
        vad: bool = False,
        vad_model: str = "auto",
        settle_seconds: float = SETTLE_SECONDS,
        speakers: StreamSpeakers | None = None,
        pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> StreamSession:
        """Begin a stream; other arguments are `SessionOptions` of `auris.recognition.options`.

        Args:
            speakers: tells the speakers of the stream apart.
            pause_seconds: length of the pause that ends a short chunk with `end_at_pauses`.

        Raises:
            UsageError, InvalidSamples, UnsupportedOption: an option is wrong, or the pool is full.
        """
        options = DecodeOptions() if options is None else options
        self.recognizer.check(options)
        seconds = LIVE_CHUNK_SECONDS if chunk_seconds is None else chunk_seconds
        cutter = Cutter(seconds, vad, vad_model, end_at_pauses, pause_seconds)
        # Without a search the steps of a chunk shorten the work at its end.
        growing = partial_text or not needs_search(options)
        chunker = StreamChunker(rate, cutter, step_seconds, skip_late, growing)
        rule = settle_rule(settle_seconds if partial_text else 0)
        with self._lock:
            if len(self._sessions) == self._streams:
                full = f"All {self._streams} streams of the pool are open"
                raise UsageError(full, "", "finish one, or make a larger pool")
            state = self._incremental.open()
            session = StreamSession(self, state, options, chunker, rule, speakers)
            self._sessions.append(session)
        return session

    def feed(
        self, samples: Mapping[StreamSession, NDArray[Any]]
    ) -> dict[StreamSession, list[StreamUpdate]]:
        """Feed several streams and do their steps together; see `StreamSession.feed`.

        If one of the blocks is refused, none is used. If a stream fails, the others continue, and
        `StreamSession.updates` returns their updates.
        """
        blocks = [(session, session.checked(block)) for session, block in samples.items()]
        for session, block in blocks:
            session.chunker.accept(block)
        self.work()
        for session in samples:
            session.check()
        return {session: session.updates() for session in samples}

    def work(self) -> None:
        """Do every step that is due in any stream, and all searches."""
        while self.work_round():
            pass

    def work_round(self) -> bool:
        """Do the next step of every stream that has one due, together, or a pass of the searches;
        returns whether there was anything to do.

        Steps come first, but after them the searches get as much time as they took. Streams whose
        chunk has shown no text yet wait for the searches only if these are owed `MOST_OWED`.
        """
        with self._lock:
            began, searches = self._clock(), self._searches.pending > 0
            self._owed = self._owed if searches else 0.0
            steps = self._next_steps()
            if steps:
                self._round(steps)
                self._owed += self._clock() - began
            elif searches:
                self._search()
                self._owed -= self._clock() - began
            for session in list(self._sessions):
                if session.done:
                    self._release(session)
        return bool(steps) or searches

    def _next_steps(self) -> list[tuple[StreamSession, StreamStep]]:
        """The steps of a round. An error in cutting a stream ends this stream alone."""
        sessions = list(self._sessions)
        if self._owed > 0.0:
            sessions = [one for one in sessions if self._owed < MOST_OWED and not one.has_text]
        due = []
        for session in sessions:
            try:
                step = session.next_step()
            except Exception as error:  # Raised again by the stream.
                self._fail(session, error)
                continue
            if step is not None:
                due.append((session, step))
        return due

    def drive(self, session: StreamSession) -> None:
        """Do rounds in the pool's thread until there is nothing to do, each as a job of its own.

        Args:
            session: was given samples. Its `notify` is called after rounds that give it updates or
                an error, and after the one behind which it has nothing to do.
        """
        with self._driver:
            self._watched.add(session)
            self._again = True
            if not self._driving:
                self._driving = True
                self._submit_round()

    def _submit_round(self) -> None:
        """Do a round in the pool's thread; if there is no such thread any more, all streams that
        are watched fail."""
        try:
            future = self.submit(self._driven_round)
        except AurisError as error:
            self._fail_watched(error)
        else:
            future.add_done_callback(self._round_done)

    def _round_done(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, AurisError):  # The thread ended before the round.
            self._fail_watched(error)

    def _fail_watched(self, error: AurisError) -> None:
        with self._driver:
            self._driving = False
            watched, self._watched = self._watched, set()
        with self._lock:
            for session in watched:
                self._fail(session, error)
        for session in watched:
            session.notify()

    def _driven_round(self) -> None:
        with self._driver:
            self._again = False
        try:
            worked = self.work_round()
        except Exception:  # Raised again by the streams that failed.
            worked = True
        with self._driver:
            notified = [session for session in self._watched if session.has_news]
            self._watched = {session for session in self._watched if session.behind}
            self._driving = worked or self._again
            if self._driving:
                self._submit_round()
        for session in notified:
            session.notify()

    def release(self, session: StreamSession) -> None:
        """End a stream now."""
        with self._lock:
            self._release(session)

    def _release(self, session: StreamSession) -> None:
        if not session.over:
            session.over = True
            self._sessions.remove(session)
            self._incremental.close(session.state)

    def _fail(self, session: StreamSession, error: BaseException) -> None:
        session.fail(error)
        self._release(session)

    def _round(self, steps: list[tuple[StreamSession, StreamStep]]) -> None:
        try:
            results = self._incremental.decode([step for _, step in steps])
            for (session, step), result in zip(steps, results, strict=True):
                try:
                    search = session.add_result(step, result)
                except AurisError as error:  # It ends this stream alone.
                    self._fail(session, error)
                    continue
                if search is not None:
                    self._searches.add(Search(session, search, result.cost))
        except (
            BaseException
        ) as error:  # Whatever it is, also Ctrl-C: these streams cannot continue.
            for session, _ in steps:
                self._fail(session, error)
            raise

    def _search(self) -> None:
        """One pass of the searches. An AurisError ends the stream of its search alone."""
        done: list[tuple[Search, SearchResult]] = []
        try:
            done = self._searches.step()
            for search, result in done:
                try:
                    if isinstance(result, AurisError):
                        raise result
                    search.session.add_searched(search.step, result, search.cost)
                except AurisError as error:
                    self._fail(search.session, error)
        except BaseException as error:
            for session in {*self._searches.clear(), *(search.session for search, _ in done)}:
                self._fail(session, error)
            raise
