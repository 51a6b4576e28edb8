"""Live speech: samples in, stable and provisional text out.

A stream is cut into pieces as a file is. At every multiple of the step's seconds, whatever the
sizes in which samples arrive, the piece that is open is recognized as far as it is heard: that text
is provisional, and equal to what a file that ended there would give. When the end of a piece is
certain, its segment is stable: it is the file's, and never changes. So what a step costs depends on
the length of a piece, never on that of the stream, and nothing of a piece is kept behind its end.
"""

from __future__ import annotations

import numbers
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.attempts import Attempt
from auris.audio.arrays import live_block
from auris.audio.resample import Resampler
from auris.audio.split import Cutter
from auris.batching import silence
from auris.errors import AurisError, InvalidSamples, UsageError
from auris.live import Cost, Turn, Voice, live_recognizer
from auris.pieces import Options, Piece
from auris.recognizers import Recognizer
from auris.segments import cleaned
from auris.stream_update import StreamUpdate
from auris.types import SAMPLE_RATE, Chunk, Samples, Segment

__all__ = ["LIVE_CHUNK_SECONDS", "Cost", "StreamPool", "StreamSession", "StreamUpdate"]

STEP_SECONDS = 0.5
"""Usual time between steps."""

LIVE_CHUNK_SECONDS = 3.0
"""Usual length of a piece of live speech: text is stable when its piece ends."""

SHORTEST_STEP = 0.02
"""Shortest time between steps that can be asked for."""


Submit = Callable[[Callable[[], None]], "Future[None]"]
"""Has something done in a thread, one thing after the other."""


class StreamSession:
    """One stream. `StreamPool.open` and `AsrPipeline.stream` make them.

    Feed it from one thread at a time. It ends with `finish` or `close`, or as a context manager.
    """

    def __init__(
        self,
        pool: StreamPool,
        voice: Voice,
        recognizer: Recognizer,
        options: Options,
        rate: int,
        cutter: Cutter,
        step_seconds: float,
        skip_late: bool,
    ) -> None:
        self.pool = pool
        self._voice = voice
        self._recognizer = recognizer
        self._options = options
        self._resampler = Resampler(rate)
        self._cutter = cutter
        self._cut_off = False  # Whether the cutter has heard that there is no more.
        self._step = _step_samples(step_seconds)
        self._skip_late = skip_late
        self._fed = 0  # Samples at the stream's own rate.
        self._inbox: deque[Samples] = deque()  # Of the feeding thread, not yet taken up.
        self._waiting: deque[Samples] = deque()
        self._queued = 0  # Samples in `_waiting`.
        self._heard = 0  # Samples that the cutter has.
        self._certain: deque[Chunk] = deque()
        self._step_due = False
        self._pieces = 0
        self._ending = False
        self._over = False
        self._error: BaseException | None = None
        self._outbox: deque[StreamUpdate] = deque()

    @property
    def rate(self) -> int:
        """Samples per second that `feed` expects."""
        return self._resampler.rate

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
        if self._ending or self._over:
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
        return live_block(samples, self._fed, self.rate)

    def accept(self, block: Samples) -> None:
        """Take `checked` samples in, for later work."""
        self._fed += len(block)
        if len(block):
            self._inbox.append(self._resampler.push(block[None])[0])

    def push_end(self) -> None:
        """Accept that there is no more, see `finish`."""
        if not self._ending and not self._over:
            self._inbox.append(self._resampler.finish()[0])
            self._ending = True

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

    def next_turn(self) -> Turn | None:
        """What the stream needs to be computed next, if anything; taken by its pool alone."""
        while True:
            if self._certain:
                chunk = self._certain.popleft()
                if not chunk.skipped:
                    return self._turn(chunk, ends=True)
                self._update(self._pieces, True, silence(chunk), Cost(0, 0, 0))
                self._pieces += 1
                continue
            if self._step_due:
                self._step_due = False
                if self._skip_late and self.waiting >= self._step:
                    continue
                under_way = self._cutter.unfixed()
                if under_way is not None:
                    return self._turn(under_way, ends=False)
            if not self._hear_step():
                return None

    def take(self, turn: Turn, attempt: Attempt, cost: Cost) -> None:
        """The result of a turn, from the stream's pool."""
        if turn.ends:  # All that a file's piece goes through.
            segment = self._recognizer.commit(attempt).segment
        else:
            segment = self._recognizer.provisional(attempt)
        self._update(turn.piece.key, turn.ends, cleaned(segment, self._options), cost)

    def fail(self, error: BaseException) -> None:
        """The work of a turn failed, and the stream with it."""
        self._error = error

    def end(self) -> Voice | None:
        """Nothing more will be computed; returns what the stream kept, once."""
        over, self._over = self._over, True
        return None if over else self._voice

    @property
    def waiting(self) -> int:
        """Samples at 16 kHz that were fed and not heard yet."""
        return self._queued + sum(map(len, tuple(self._inbox)))

    @property
    def behind(self) -> bool:
        """Whether there is work left for a round of the pool."""
        if self._over or self._error is not None:
            return False
        return self._ending or bool(self._certain) or self.waiting >= self._step

    @property
    def done(self) -> bool:
        """Whether everything was recognized."""
        return self._cut_off and not self._certain

    def _update(self, piece: int, stable: bool, segment: Segment, cost: Cost) -> None:
        heard = self._heard / SAMPLE_RATE
        self._outbox.append(StreamUpdate(piece, stable, segment, heard, cost))

    def _turn(self, chunk: Chunk, ends: bool) -> Turn:
        piece = Piece(self._pieces, chunk, self._options)
        self._pieces += ends
        return Turn(self._voice, piece, ends)

    def _hear_step(self) -> bool:
        """Give the cutter samples up to the next step; whether there was anything to give."""
        ending = self._ending  # Read before the inbox: what came before the end is in it.
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
            self._queued += len(self._waiting[-1])
        wanted = self._step - self._heard % self._step
        if self._queued < wanted and not ending:
            return False
        if self._queued:
            samples = self._next_samples(wanted)
            self._heard += len(samples)
            self._certain.extend(self._cutter.feed(samples))
            self._step_due = self._heard % self._step == 0
            return True
        if self._cut_off:
            return False
        self._cut_off = True
        self._certain.extend(self._cutter.finish())
        return True

    def _next_samples(self, most: int) -> Samples:
        """The next samples that wait, up to `most`."""
        parts = []
        while most and self._waiting:
            block = self._waiting.popleft()
            parts.append(block[:most])
            if len(block) > most:
                self._waiting.appendleft(block[most:])
            most -= len(parts[-1])
        samples = np.concatenate(parts)
        self._queued -= len(samples)
        return samples


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
        self._live = live_recognizer(recognizer, streams)
        self._streams = streams
        self._sessions: list[StreamSession] = []
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._submit = submit

    def open(
        self,
        options: Options | None = None,
        recognizer: Recognizer | None = None,
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
            recognizer: what makes segments; the pool's own, or one that stands before it.
            rate: samples per second that it will be fed.
            chunk_seconds, vad: how it is cut into pieces, see `auris.audio.split`.
            step_seconds: time between steps, at least 0.02.
            skip_late: leave out the provisional text of steps behind which another one is already
                due, so that a slow machine keeps up; stable text stays what it is.

        Raises:
            UsageError: an option is impossible, or the pool is full.
            InvalidSamples: the rate is.
            UnsupportedOption: the model cannot honour an option.
        """
        options = Options() if options is None else options
        recognizer = self.recognizer if recognizer is None else recognizer
        recognizer.check(options)
        with self._lock:
            if len(self._sessions) == self._streams:
                raise UsageError(
                    f"This pool has room for {self._streams} streams",
                    "all are open",
                    "finish one, or make a larger pool",
                )
            voice = self._live.open()
            try:
                cutter = Cutter(chunk_seconds, vad)
                session = StreamSession(
                    self, voice, recognizer, options, rate, cutter, step_seconds, skip_late
                )
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

    def _round(self, turns: list[tuple[StreamSession, Turn]]) -> None:
        try:
            found = list(self._live.decode([turn for _, turn in turns]))
            for (session, turn), (attempt, cost) in zip(turns, found, strict=True):
                self._take(session, turn, attempt, cost)
        except BaseException as error:
            for session, _ in turns:
                session.fail(error)
                self._release(session)
            raise

    def _take(self, session: StreamSession, turn: Turn, attempt: Attempt, cost: Cost) -> None:
        """A stream's result; what is wrong with it is no concern of the others."""
        try:
            session.take(turn, attempt, cost)
        except AurisError as error:
            session.fail(error)
            self._release(session)


def _step_samples(step_seconds: object) -> int:
    real = isinstance(step_seconds, numbers.Real)
    if not real or not SHORTEST_STEP <= float(step_seconds) <= 60.0:  # type: ignore[arg-type]
        raise UsageError(
            f"Steps have to be {SHORTEST_STEP} to 60 seconds apart",
            f"{step_seconds!r} was asked",
            "choose --step-seconds in this range",
        )
    return round(float(step_seconds) * SAMPLE_RATE)  # type: ignore[arg-type]
