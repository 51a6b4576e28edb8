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
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from auris.audio.segmentation import Cutter
from auris.errors import AurisError, UsageError
from auris.recognition.qwen import needs_search
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import DecodeOptions
from auris.streaming.chunker import StreamChunker
from auris.streaming.decoder import StreamStep, incremental_recognizer
from auris.streaming.searches import Search, SearchQueue
from auris.streaming.session import StreamSession, StreamUpdate
from auris.streaming.settle import SETTLE_SECONDS, settle_rule
from auris.streaming.speakers import StreamSpeakers
from auris.types import SAMPLE_RATE

STEP_SECONDS = 0.5
"""Default time between steps."""

LIVE_CHUNK_SECONDS = 8.0
"""Default length of the chunks of a stream; that of a model may be shorter."""

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
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._submit = submit
        self._asking = threading.Lock()
        self._soon: Future[None] | None = None  # A round that has not begun.

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
    ) -> StreamSession:
        """Begin a stream; other arguments are `SessionOptions` of `auris.recognition.options`.

        Args:
            speakers: tells the speakers of the stream apart.

        Raises:
            UsageError, InvalidSamples, UnsupportedOption: an option is wrong, or the pool is full.
        """
        options = DecodeOptions() if options is None else options
        self.recognizer.check(options)
        with self._lock:
            if len(self._sessions) == self._streams:
                full = f"All {self._streams} streams of the pool are open"
                raise UsageError(full, "", "finish one, or make a larger pool")
            state = self._incremental.open()
            try:
                seconds = LIVE_CHUNK_SECONDS if chunk_seconds is None else chunk_seconds
                cutter = Cutter(seconds, vad, vad_model, end_at_pauses)
                # Without a search the steps of a chunk shorten the work at its end.
                growing = partial_text or not needs_search(options)
                chunker = StreamChunker(rate, cutter, step_seconds, skip_late, growing)
                rule = settle_rule(settle_seconds if partial_text else 0)
                session = StreamSession(self, state, options, chunker, rule, speakers)
            except AurisError:
                self._incremental.close(state)
                raise
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
        """Do the next step of every stream that has one due, together, and then a pass of the
        searches, or more of them in as much time as the steps took; returns whether there was
        anything to do."""
        with self._lock:
            began = self._clock()
            due = [(session, session.next_step()) for session in self._sessions]
            steps = [(session, step) for session, step in due if step is not None]
            if steps:
                self._round(steps)
            worked = bool(steps)
            until = 2 * self._clock() - began
            while self._searches.pending:
                worked = True
                self._search()
                if self._clock() >= until:
                    break
            for session in list(self._sessions):
                if session.done:
                    self._release(session)
        return worked

    def round_soon(self) -> Future[None]:
        """Do a round in the pool's thread. Whoever calls this before it begins shares it, so the
        future must not be cancelled.

        An error is not raised here: `StreamSession.updates` of the streams that failed raise it.
        """
        with self._asking:
            if self._soon is None:
                self._soon = self.submit(self._shared_round)
            return self._soon

    def _shared_round(self) -> None:
        with self._asking:
            self._soon = None
        with suppress(Exception):
            self.work_round()

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Run a function in the pool's thread, one after the other."""
        if self._submit is not None:
            return self._submit(job)
        with self._lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "auris-streams")
        return self._worker.submit(job)

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
        try:
            for search, result in self._searches.step():
                try:
                    if isinstance(result, AurisError):
                        raise result
                    search.session.add_searched(search.step, result, search.cost)
                except AurisError as error:
                    self._fail(search.session, error)
        except BaseException as error:
            for session in self._searches.clear():
                self._fail(session, error)
            raise
