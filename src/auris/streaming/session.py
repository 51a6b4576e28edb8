"""Live streams: samples in, partial and final text out.

A stream is cut into chunks as a file is. At every multiple of the step length, the chunk so far is
recognized, whatever the sizes of the blocks that were fed. This text is partial and equals that of
a file that ends there, without a search. When the end of a chunk is certain, its segment is final:
it equals that of a file and never changes. The cost of a step depends on the length of its chunk,
not on that of the stream, and nothing of a chunk is stored after its end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from auris.audio.arrays import live_block
from auris.audio.segmentation import Cutter
from auris.errors import AurisError, InvalidSamples, UsageError
from auris.recognition.qwen import needs_search
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import ChunkRequest, DecodeOptions, DecodeResult
from auris.recognition.scheduler import silent_segment
from auris.streaming.chunker import StreamChunker
from auris.streaming.decoder import StepCost, StreamState, StreamStep, incremental_recognizer
from auris.streaming.live_text import LiveChange, LiveText
from auris.streaming.settle import SETTLE_SECONDS, SettleRule, settle_rule
from auris.streaming.speakers import SpeakerText, StreamSpeakers
from auris.types import SAMPLE_RATE, Samples, Segment, Transcript

STEP_SECONDS = 0.5
"""Default time between steps."""

LIVE_CHUNK_SECONDS = 8.0
"""Default length of the chunks of a stream; that of a model may be shorter."""

Submit = Callable[[Callable[[], None]], "Future[None]"]
"""Runs a function in a thread, one after the other."""


@dataclass(frozen=True)
class StreamUpdate:
    """The segment of a chunk after a step.

    Attributes:
        chunk: number of the chunk in the stream, from 0.
        final: whether the chunk is over and its segment will not change; if not, the next update
            of the chunk replaces this one.
        segment: the chunk so far, with times in seconds from the beginning of the stream.
        seconds: of the stream that were processed.
        cost: the amount of work.
        settled: the settled text of the chunk, which only grows.
        partial: the text behind it, which the next update replaces; none of a final update.
        delta: what this update adds to the settled text of the stream. All deltas joined are that
            text.
        settled_words: how many words of the chunk settled before it was over.
        revised: of a final update, how many of these words differ from the final text.
        carried: of a final update, the end of its settled text that lies behind the end of the
            chunk; the settled text of the next chunk begins with it.
        speakers: who says the settled text, or the text of a final segment, as far as it is known
            now; None if speakers are not told apart.
    """

    chunk: int
    final: bool
    segment: Segment
    seconds: float
    cost: StepCost
    settled: str = ""
    partial: str = ""
    delta: str = ""
    settled_words: int = 0
    revised: int = 0
    carried: str = ""
    speakers: tuple[SpeakerText, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; speakers only where they are told apart."""
        speakers = {}
        if self.speakers is not None:
            speakers = {"speakers": [one.to_dict() for one in self.speakers]}
        return {
            "chunk": self.chunk,
            "final": self.final,
            "seconds": round(self.seconds, 3),
            "settled": self.settled,
            "partial": self.partial,
            "delta": self.delta,
            "revised": self.revised,
            "carried": self.carried,
            **speakers,
            **self.segment.to_dict(),
        }


class StreamSession:
    """One stream. `StreamPool.open` and `AsrPipeline.stream` make them.

    Feed it from one thread at a time. It ends with `finish` or `close`, or as a context manager.

    Attributes:
        speakers: tells the speakers apart; None where they are not.
    """

    def __init__(
        self,
        pool: StreamPool,
        state: StreamState,
        options: DecodeOptions,
        chunker: StreamChunker,
        rule: SettleRule | None = None,
        speakers: StreamSpeakers | None = None,
    ) -> None:
        self.pool = pool
        self._state = state
        self._options = options
        self._partial_options = replace(options, beam_size=1, hotwords=())
        self._chunker = chunker
        self._settles = rule is not None
        self.speakers = speakers
        self._text = LiveText(pool.recognizer.tokenizer, state, rule)
        self._chunks = 0
        self._partial: Segment  # Of the last step that did not end a chunk.
        self._waiting_step: StreamStep | None = None  # A search that waits for the next round.
        self._over = False
        self._error: BaseException | None = None
        self._outbox: deque[StreamUpdate] = deque()

    @property
    def rate(self) -> int:
        """Samples per second that `feed` expects."""
        return self._chunker.rate

    def feed(self, samples: NDArray[Any], rate: int | None = None) -> list[StreamUpdate]:
        """Add samples and do the steps that are due.

        Args:
            samples: [S] of any length, also 0; floats with full scale at -1..1, or int16, int32 or
                uint8.
            rate: of the samples, to check it; it cannot change.

        Returns:
            the updates, in order; none if no step was due.

        Raises:
            InvalidSamples: wrong type, shape or rate, or a sample is NaN, infinite or beyond 1e15.
                None of these samples is used, and the stream can continue.
            UsageError: the stream is finished.
        """
        self.push(samples, rate)
        self.pool.work()
        return self.updates()

    def finish(self) -> list[StreamUpdate]:
        """Recognize the rest and end the stream; returns the last updates."""
        self.push_end()
        self.pool.work()
        return self.updates()

    def close(self) -> None:
        """End the stream without recognizing the rest."""
        self.pool.release(self)

    def transcript(self) -> Transcript:
        """The transcript of a finished stream with its speakers, as of a file that is diarized.

        Raises:
            UsageError: speakers are not told apart, or the stream is not finished.
        """
        if self.speakers is None or not self._chunker.done:
            raise UsageError(
                "A stream has a transcript with speakers at its end",
                "it is not finished" if self.speakers else "it was opened without diarize",
                "call finish before" if self.speakers else "open it with diarize=True",
            )
        self._check()
        return self.speakers.transcript(self._options.warnings)

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, samples: NDArray[Any], rate: int | None = None) -> None:
        """Accept samples without doing the steps; arguments and errors are those of `feed`."""
        self._chunker.accept(self._checked(samples, rate))

    def push_end(self) -> None:
        """Mark the end of the samples without doing the steps."""
        if not self._over:
            self._chunker.end()

    def updates(self) -> list[StreamUpdate]:
        """Updates since the last call; raises the error of a step that failed."""
        self._check()
        # One by one, since the thread of the pool may append at the same time.
        return [self._outbox.popleft() for _ in range(len(self._outbox))]

    @property
    def behind(self) -> bool:
        """Whether a step is due."""
        due = self._waiting_step is not None or self._chunker.behind
        return not self._over and self._error is None and due

    def _checked(self, samples: NDArray[Any], rate: int | None = None) -> Samples:
        if self._chunker.ending or self._over:
            raise UsageError("The stream is finished", "", "open another")
        if rate is not None and rate != self.rate:
            raise InvalidSamples(
                "The rate of a stream cannot change",
                f"it is {self.rate} Hz and these samples have {rate!r}",
                "open another stream for them",
            )
        if self.speakers is not None:
            self.speakers.check_length(self._chunker.fed / self.rate)
        return live_block(samples, self._chunker.fed, self.rate)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _next_step(self) -> StreamStep | None:
        """The next step that is due, or None. Skipped silence gives an update at once."""
        while (due := self._chunker.next()) is not None:
            options = self._options if due.ends else self._partial_options
            request = ChunkRequest(self._chunks, due.chunk, options)
            self._chunks += due.ends
            step = StreamStep(self._state, request, due.ends, self._settles)
            if not due.chunk.skipped:
                return step
            change = self._text.add_final(silent_segment(due.chunk))
            self._add_update(step, silent_segment(due.chunk), StepCost(0, 0, 0), change)
        return None

    def _add_result(self, step: StreamStep, result: DecodeResult, cost: StepCost) -> None:
        """Add the result of a step as an update; of a search that settles words only if it does."""
        recognizer = self.pool.recognizer
        if step.ends:
            segment = recognizer.final(result)
            change = self._text.add_final(segment)
        elif needs_search(step.request.options):
            segment = self._partial
            change = self._text.add_searched(recognizer.final(result), segment.end)
            if not change.delta:
                return
        else:
            segment = self._partial = recognizer.partial(result)
            change = self._text.add_partial(result, segment, segment.end)
            self._plan_search(step)
        self._add_update(step, segment, cost, change)

    def _plan_search(self, step: StreamStep) -> None:
        """Search the chunk of a step in the next round, if words wait for long."""
        if self._text.waits and needs_search(self._options) and not self._chunker.late:
            request = replace(step.request, options=replace(self._options, aligner=None))
            self._waiting_step = replace(step, request=request)

    def _add_update(
        self, step: StreamStep, segment: Segment, cost: StepCost, change: LiveChange
    ) -> None:
        seconds, speakers = self._chunker.processed / SAMPLE_RATE, None
        if self.speakers is not None:
            chunk = step.request.chunk
            if step.ends:
                speakers = self.speakers.of_final(chunk, segment)
            else:
                speakers = self.speakers.of_settled(chunk, self._text.settled_words)
            segment = self.speakers.shown(segment)
        update = StreamUpdate(
            step.request.key,
            step.ends,
            segment,
            seconds,
            cost,
            **vars(change),
            speakers=speakers,
        )
        self._outbox.append(update)


class StreamPool:
    """Streams that share one model; steps that are due at the same time run as one batch.

    Safe to use from several threads; each stream from one at a time.

    Args:
        streams: maximum number of open streams.
        submit: runs a function in a thread of the caller, one after the other; by default the pool
            starts a thread of its own when it needs one.
    """

    def __init__(
        self, recognizer: Recognizer, streams: int = 8, submit: Submit | None = None
    ) -> None:
        self.recognizer = recognizer
        self._incremental = incremental_recognizer(recognizer, streams)
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
        blocks = [(session, session._checked(block)) for session, block in samples.items()]
        for session, block in blocks:
            session._chunker.accept(block)
        self.work()
        for session in samples:
            session._check()
        return {session: session.updates() for session in samples}

    def work(self) -> None:
        """Do every step that is due in any stream; steps of several streams run as one batch."""
        while self.work_round():
            pass

    def work_round(self) -> bool:
        """Do the next step of every stream that has one due; returns whether there was any.

        Chunks that are over and searched take a round of their own, so that the partial text of
        other streams does not wait for them.
        """
        with self._lock:
            steps = self._next_steps()
            if steps:
                self._round(steps)
            for session in list(self._sessions):
                if session._chunker.done and session._waiting_step is None:
                    self._release(session)
        return bool(steps)

    def _next_steps(self) -> list[tuple[StreamSession, StreamStep]]:
        """The steps of a round: searches that wait, or else what is due."""
        searches = []
        for session in self._sessions:
            if session._waiting_step is not None:
                searches.append((session, session._waiting_step))
                session._waiting_step = None
        if searches:
            return searches
        due = [(session, session._next_step()) for session in self._sessions]
        steps = [(session, step) for session, step in due if step is not None]
        quick = [pair for pair in steps if not needs_search(pair[1].request.options)]
        if not quick:
            return steps
        for session, step in steps:
            if needs_search(step.request.options):
                session._waiting_step = step
        return quick

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
        if not session._over:
            session._over = True
            self._sessions.remove(session)
            self._incremental.close(session._state)

    def _fail(self, session: StreamSession, error: BaseException) -> None:
        session._error = error
        self._release(session)

    def _round(self, steps: list[tuple[StreamSession, StreamStep]]) -> None:
        try:
            decoded = self._incremental.decode([step for _, step in steps])
            for (session, step), (result, cost) in zip(steps, decoded, strict=True):
                self._add_result(session, step, result, cost)
        except (
            BaseException
        ) as error:  # Whatever it is, also Ctrl-C: these streams cannot continue.
            for session, _ in steps:
                self._fail(session, error)
            raise

    def _add_result(
        self, session: StreamSession, step: StreamStep, result: DecodeResult, cost: StepCost
    ) -> None:
        """Add the result of a stream; an error ends this stream alone."""
        try:
            session._add_result(step, result, cost)
        except AurisError as error:
            self._fail(session, error)
