"""Live speech: samples in, stable and provisional text out.

A stream is cut into pieces as a file is. At every multiple of the step's seconds, whatever the
sizes in which samples arrive, the piece that is open is recognized as far as it is heard: that text
is provisional, and equal to what a file that ended there would give. When the end of a piece is
certain, its segment is stable: it is the file's, and never changes. So what a step costs depends on
the length of a piece, never on that of the stream, and nothing of a piece is kept behind its end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from auris.audio.arrays import live_block
from auris.audio.segmentation import Cutter
from auris.errors import AurisError, InvalidSamples, UsageError
from auris.recognition.fallback import DecodeResult
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import ChunkRequest, DecodeOptions
from auris.recognition.scheduler import silent_segment
from auris.streaming.chunker import PendingChunk, StreamChunker
from auris.streaming.decoder import StepCost, StreamState, StreamStep, incremental_recognizer
from auris.types import SAMPLE_RATE, Samples, Segment

__all__ = ["LIVE_CHUNK_SECONDS", "StepCost", "StreamPool", "StreamSession", "StreamUpdate"]

STEP_SECONDS = 0.5
"""Usual time between steps."""

LIVE_CHUNK_SECONDS = 3.0
"""Usual length of a piece of live speech: text is stable when its piece ends."""


Submit = Callable[[Callable[[], None]], "Future[None]"]
"""Has something done in a thread, one thing after the other."""


@dataclass(frozen=True)
class StreamUpdate:
    """What is known of a piece after a step.

    Attributes:
        piece: counts the pieces of the stream from 0.
        stable: whether the piece is over and its segment will not change; else the next update of
            the piece replaces this one.
        segment: the piece as far as it is heard, with times in seconds from the stream's beginning.
        heard: seconds of the stream that were heard for this.
        cost: what was computed.
    """

    piece: int
    stable: bool
    segment: Segment
    heard: float
    cost: StepCost

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "piece": self.piece,
            "stable": self.stable,
            "heard": round(self.heard, 3),
            **self.segment.to_dict(),
        }


class StreamSession:
    """One stream. `StreamPool.open` and `AsrPipeline.stream` make them.

    Feed it from one thread at a time. It ends with `finish` or `close`, or as a context manager.
    """

    def __init__(
        self,
        pool: StreamPool,
        voice: StreamState,
        options: DecodeOptions,
        steps: StreamChunker,
    ) -> None:
        self.pool = pool
        self._voice = voice
        self._options = options
        self._steps = steps
        self._pieces = 0
        self._over = False
        self._error: BaseException | None = None
        self._outbox: deque[StreamUpdate] = deque()

    @property
    def rate(self) -> int:
        """Samples per second that `feed` expects."""
        return self._steps.rate

    def feed(self, samples: NDArray[Any], rate: int | None = None) -> list[StreamUpdate]:
        """Hear more and do the steps that are due.

        Args:
            samples: [S] of any length, also 0; floats with full scale at -1..1, or int16, int32 or
                uint8.
            rate: of the samples, where a caller wants it checked; it cannot change.

        Returns:
            the updates, in order; none where no step was due.

        Raises:
            InvalidSamples: wrong type, shape or rate, or a sample is NaN, infinite or beyond 1e15.
                Nothing of these samples is heard, and the stream can go on.
            UsageError: the stream is over.
        """
        self.push(samples, rate)
        self.pool.work()
        return self.updates()

    def finish(self) -> list[StreamUpdate]:
        """There is no more: recognize the rest, end the stream.

        Returns:
            the last updates; none when it had ended before, or nothing was heard.
        """
        self.push_end()
        self.pool.work()
        return self.updates()

    def close(self) -> None:
        """End the stream without recognizing the rest; what it held is free for others."""
        self.pool.release(self)

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, samples: NDArray[Any], rate: int | None = None) -> None:
        """Accept samples for later work, see `feed`."""
        self.accept(self.checked(samples, rate))

    def checked(self, samples: NDArray[Any], rate: int | None = None) -> Samples:
        """Samples as the stream can accept them; it has not heard them yet."""
        if self._steps.ending or self._over:
            raise UsageError(
                "A stream can be fed until it is finished",
                "this one is over",
                "open another",
            )
        if rate is not None and rate != self.rate:
            raise InvalidSamples(
                "The rate of a stream cannot change",
                f"it is {self.rate} Hz and these samples have {rate!r}",
                "open another stream for them",
            )
        return live_block(samples, self._steps.fed, self.rate)

    def accept(self, block: Samples) -> None:
        """Take `checked` samples in, for later work."""
        self._steps.accept(block)

    def push_end(self) -> None:
        """Accept that there is no more, see `finish`."""
        if not self._over:
            self._steps.end()

    def updates(self) -> list[StreamUpdate]:
        """Updates of work that is done and were not taken yet.

        Raises:
            AurisError: of the work.
        """
        self.check()
        taken = []
        while self._outbox:
            taken.append(self._outbox.popleft())
        return taken

    def check(self) -> None:
        """Raise the error that ended the stream, if one did."""
        if self._error is not None:
            raise self._error

    def next_turn(self) -> StreamStep | None:
        """What the stream needs to be computed next, if anything; taken by its pool alone."""
        while (due := self._steps.next()) is not None:
            if not due.chunk.skipped:
                return self._turn(due)
            self._update(self._pieces, True, silent_segment(due.chunk), StepCost(0, 0, 0))
            self._pieces += 1
        return None

    def take(self, turn: StreamStep, attempt: DecodeResult, cost: StepCost) -> None:
        """The result of a turn, from the stream's pool."""
        recognizer = self.pool.recognizer
        segment = recognizer.final(attempt) if turn.ends else recognizer.partial(attempt)
        self._update(turn.piece.key, turn.ends, segment, cost)

    def fail(self, error: BaseException) -> None:
        """The work of a turn failed, and the stream with it."""
        self._error = error

    def end(self) -> StreamState | None:
        """Nothing more will be computed; returns what the stream kept, once."""
        over, self._over = self._over, True
        return None if over else self._voice

    @property
    def behind(self) -> bool:
        """Whether there is work left for a round of the pool."""
        return not self._over and self._error is None and self._steps.behind

    @property
    def done(self) -> bool:
        """Whether everything was recognized."""
        return self._steps.done

    def _update(self, piece: int, stable: bool, segment: Segment, cost: StepCost) -> None:
        heard = self._steps.heard / SAMPLE_RATE
        self._outbox.append(StreamUpdate(piece, stable, segment, heard, cost))

    def _turn(self, due: PendingChunk) -> StreamStep:
        piece = ChunkRequest(self._pieces, due.chunk, self._options)
        self._pieces += due.ends
        return StreamStep(self._voice, piece, due.ends)


class StreamPool:
    """Streams that share one model; steps that are due together are computed together.

    Safe to use from several threads; each stream from one at a time.

    Args:
        recognizer: the model.
        streams: most streams at once.
        submit: does work in a thread that the caller has for it, one thing after the other; by
            default the pool has a thread of its own when it needs one.
    """

    def __init__(
        self, recognizer: Recognizer, streams: int = 8, submit: Submit | None = None
    ) -> None:
        self.recognizer = recognizer
        self._live = incremental_recognizer(recognizer, streams)
        self._streams = streams
        self._sessions: list[StreamSession] = []
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._submit = submit

    def open(
        self,
        options: DecodeOptions | None = None,
        *,
        rate: int = SAMPLE_RATE,
        chunk_seconds: float = LIVE_CHUNK_SECONDS,
        step_seconds: float = STEP_SECONDS,
        skip_late: bool = False,
        vad: bool = False,
    ) -> StreamSession:
        """Begin a stream.

        Args:
            options: how it is transcribed.
            rate: samples per second that it will be fed.
            chunk_seconds, vad: how it is cut into pieces, see `auris.audio.segmentation`.
            step_seconds: time between steps, at least 0.02.
            skip_late: leave out the provisional text of steps behind which another one is already
                due, so that a slow machine keeps up; stable text stays what it is.

        Raises:
            UsageError: an option is impossible, or the pool is full.
            InvalidSamples: the rate is.
            UnsupportedOption: the model cannot honour an option.
        """
        options = DecodeOptions() if options is None else options
        self.recognizer.check(options)
        with self._lock:
            if len(self._sessions) == self._streams:
                raise UsageError(
                    f"This pool has room for {self._streams} streams",
                    "all are open",
                    "finish one, or make a larger pool",
                )
            voice = self._live.open()
            try:
                steps = StreamChunker(rate, Cutter(chunk_seconds, vad), step_seconds, skip_late)
                session = StreamSession(self, voice, options, steps)
            except AurisError:
                self._live.close(voice)
                raise
            self._sessions.append(session)
        return session

    def feed(
        self, samples: Mapping[StreamSession, NDArray[Any]]
    ) -> dict[StreamSession, list[StreamUpdate]]:
        """Feed several streams and do their steps together; see `StreamSession.feed`.

        Where one of the blocks is refused, none is heard. Where a stream fails, the others go on,
        and their updates wait in `StreamSession.updates`.
        """
        blocks = [(session, session.checked(block)) for session, block in samples.items()]
        for session, block in blocks:
            session.accept(block)
        self.work()
        for session in samples:
            session.check()
        return {session: session.updates() for session in samples}

    def work(self) -> None:
        """Do every step that is due in any stream, together where several streams have one."""
        while self.work_round():
            pass

    def work_round(self) -> bool:
        """Do the next step of every stream that has one due; whether there was any."""
        with self._lock:
            turns = [
                (session, turn)
                for session in self._sessions
                if (turn := session.next_turn()) is not None
            ]
            if turns:
                self._round(turns)
            for session in [session for session in self._sessions if session.done]:
                self._release(session)
        return bool(turns)

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Do something in the pool's thread, one thing after the other."""
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
        voice = session.end()
        if voice is not None:
            self._sessions.remove(session)
            self._live.close(voice)

    def _round(self, turns: list[tuple[StreamSession, StreamStep]]) -> None:
        try:
            found = list(self._live.decode([turn for _, turn in turns]))
            for (session, turn), (attempt, cost) in zip(turns, found, strict=True):
                self._take(session, turn, attempt, cost)
        except BaseException as error:
            for session, _ in turns:
                session.fail(error)
                self._release(session)
            raise

    def _take(
        self, session: StreamSession, turn: StreamStep, attempt: DecodeResult, cost: StepCost
    ) -> None:
        """A stream's result; what is wrong with it is no concern of the others."""
        try:
            session.take(turn, attempt, cost)
        except AurisError as error:
            session.fail(error)
            self._release(session)
