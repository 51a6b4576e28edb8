"""Live streams: samples in, partial and final text out.

A stream is cut into chunks as a file is. At every multiple of the step length, the chunk so far is
recognized, whatever the sizes of the blocks that were fed. This text is partial and equals that of
a file that ends there, without a search. When the end of a chunk is certain, its segment is final:
it equals that of a file and never changes. The cost of a step depends on the length of its chunk,
not on that of the stream, and nothing of a chunk is stored after its final text.

A search takes longer than a step, so `auris.streaming.pool` does both by turns. A stream waits for
its own searches, so that its updates depend on its audio alone. One that is not to be late goes on:
text of the next chunk is shown behind that of the chunk whose search is not over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from auris.audio.arrays import live_block
from auris.errors import InvalidSamples, UsageError
from auris.recognition.qwen import needs_search
from auris.recognition.requests import ChunkRequest, DecodeOptions, DecodeResult
from auris.recognition.scheduler import silent_segment
from auris.streaming.chunker import PendingChunk, StreamChunker
from auris.streaming.decoder import StepCost, StepResult, StreamState, StreamStep
from auris.streaming.live_text import LiveChange, LiveText
from auris.streaming.settle import SettleRule
from auris.streaming.speakers import SpeakerText, StreamSpeakers
from auris.types import SAMPLE_RATE, Samples, Segment, Transcript

if TYPE_CHECKING:
    from auris.streaming.pool import StreamPool


@dataclass(frozen=True)
class StreamUpdate:
    """The segment of a chunk after a step.

    Attributes:
        chunk: number of the chunk in the stream, from 0.
        final: whether the chunk is over and its segment will not change; if not, the next update
            of the chunk replaces this one.
        segment: the chunk so far, with times in seconds from the beginning of the stream. With
            `skip_late`, while the chunk before is searched, it holds the text of both, and its
            tokens are those of both decodings.
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


@dataclass(frozen=True)
class _PartialResult:
    """The newest step of a chunk that had not ended."""

    step: StreamStep
    decoded: DecodeResult
    segment: Segment


class StreamSession:
    """One stream. `StreamPool.open` and `AsrPipeline.stream` make them.

    Feed it from one thread at a time. It ends with `finish` or `close`, or as a context manager.

    Attributes:
        pool: it belongs to.
        state: of its steps.
        chunker: cuts it into chunks.
        speakers: tells the speakers apart; None where they are not.
        searches: how many of its searches are not over.
        over: whether it has ended.
        notify: called in the thread of the pool, see `StreamPool.drive`.
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
        self.state = state
        self._options = options
        self._partial_options = replace(options, beam_size=1, hotwords=())
        self.chunker = chunker
        self._settles = rule is not None
        self.speakers = speakers
        self._text = LiveText(pool.recognizer.tokenizer, state, rule)
        self._chunks = 0
        self._partial: _PartialResult | None = None  # Of the open chunk.
        self._awaited: StreamStep | None = None  # A chunk that is over, and whose search is not.
        self._awaited_partial: _PartialResult | None = None
        self._due: PendingChunk | None = None  # Waits for the search of the chunk before.
        self.searches = 0
        self.over = False
        self.notify: Callable[[], object] = lambda: None
        self._error: BaseException | None = None
        self._outbox: deque[StreamUpdate] = deque()

    @property
    def rate(self) -> int:
        """Samples per second that `feed` expects."""
        return self.chunker.rate

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
        if self.speakers is None or not self.chunker.done:
            raise UsageError(
                "A stream has a transcript with speakers at its end",
                "it is not finished" if self.speakers else "it was opened without diarize",
                "call finish before" if self.speakers else "open it with diarize=True",
            )
        self.check()
        return self.speakers.transcript(self._options.warnings)

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, samples: NDArray[Any], rate: int | None = None) -> None:
        """Accept samples without doing the steps; arguments and errors are those of `feed`."""
        self.chunker.accept(self.checked(samples, rate))

    def push_end(self) -> None:
        """Mark the end of the samples without doing the steps."""
        if not self.over:
            self.chunker.end()

    def updates(self) -> list[StreamUpdate]:
        """Updates since the last call; raises the error of a step that failed."""
        self.check()
        # One by one, since the thread of the pool may append at the same time.
        return [self._outbox.popleft() for _ in range(len(self._outbox))]

    @property
    def behind(self) -> bool:
        """Whether a step is due, or a search is not over."""
        due = self.searches > 0 or self.chunker.behind
        return not self.over and self._error is None and due

    @property
    def seconds(self) -> float:
        """How much of the stream its steps have covered."""
        return self.chunker.processed / SAMPLE_RATE

    @property
    def has_news(self) -> bool:
        """Whether `updates` has something to return or to raise, or nothing is due."""
        return bool(self._outbox) or not self.behind

    @property
    def has_text(self) -> bool:
        """Whether text of the open chunk, or of the one that is searched, was shown, or none is to
        be shown."""
        if not self.chunker.growing:
            return True
        shown = (self._partial, self._awaited_partial)
        return any(partial is not None and partial.segment.text for partial in shown)

    @property
    def done(self) -> bool:
        """Whether the stream has ended, and all of its text is final."""
        return self.chunker.done and self._awaited is None and self._due is None

    def checked(self, samples: NDArray[Any], rate: int | None = None) -> Samples:
        """The samples as the chunker takes them; arguments and errors are those of `feed`."""
        if self.chunker.ending or self.over:
            raise UsageError("The stream is finished", "", "open another")
        if rate is not None and rate != self.rate:
            raise InvalidSamples(
                "The rate of a stream cannot change",
                f"it is {self.rate} Hz and these samples have {rate!r}",
                "open another stream for them",
            )
        if self.speakers is not None:
            self.speakers.check_length(self.chunker.fed / self.rate)
        return live_block(samples, self.chunker.fed, self.rate)

    def check(self) -> None:
        """Raise the error of a step that failed."""
        if self._error is not None:
            raise self._error

    def fail(self, error: BaseException) -> None:
        """Let `updates` raise an error."""
        self._error = error

    def next_step(self) -> StreamStep | None:
        """The next step that is due, or None. Skipped silence gives an update at once."""
        while (due := self._next_due()) is not None:
            options = self._options if due.ends else self._partial_options
            request = ChunkRequest(self._chunks, due.chunk, options)
            self._chunks += due.ends
            step = StreamStep(self.state, request, due.ends, self._settles)
            if not due.chunk.skipped:
                return step
            self._add_final(step, silent_segment(due.chunk), StepCost(0, 0, 0))
        return None

    def _next_due(self) -> PendingChunk | None:
        """What is due and need not wait for a search."""
        if self.searches and not self.chunker.skips_late:
            return None
        due, self._due = self._due or self.chunker.next(), None
        if due is not None and due.ends and self._awaited is not None:
            self._due = due
            return None
        return due

    def add_result(self, step: StreamStep, result: StepResult) -> StreamStep | None:
        """Add the result of a step as an update; returns the step to search, if it has to be."""
        request = replace(step.request, encoded=result.encoded)
        if result.decoded is None:
            self._awaited, self._awaited_partial, self._partial = step, self._partial, None
            chunk = request.chunk
            self._text.end_chunk((chunk.start + len(chunk.samples)) / SAMPLE_RATE)
            return replace(step, request=replace(request, cancelled=lambda: self.over))
        decoded = replace(result.decoded, request=request)
        if step.ends:
            self._add_final(step, self.pool.recognizer.final(decoded), result.cost)
            return None
        segment = self.pool.recognizer.partial(decoded)
        self._partial = _PartialResult(step, decoded, segment)
        self._show_partial(self._partial, result.cost)
        waits = self._text.waits and needs_search(self._options) and not self.chunker.late
        return self._early_search(step, request) if waits and self._awaited is None else None

    def add_searched(self, step: StreamStep, segment: Segment, cost: StepCost) -> None:
        """Add the result of a search; of one that settles words, as an update if it does."""
        if step.ends:
            self._awaited = self._awaited_partial = None
            self._add_final(step, segment, cost)
            if self._partial is not None:  # Shown behind this chunk so far.
                self._show_partial(self._partial, StepCost(0, 0, 0))
        elif self._partial is not None and self._awaited is None:
            scores = None if step.request.encoded is None else step.request.encoded.logits
            change = self._text.add_searched(segment, segment.end, scores)
            if change.delta:
                partial = self._partial
                self._add_update(partial.step, partial.segment, StepCost(0, 0, 0), change)

    def _early_search(self, step: StreamStep, request: ChunkRequest) -> StreamStep:
        """The search that settles words of a chunk which is not over."""

        def cancelled() -> bool:
            return self.over or self._chunks > request.key

        options = replace(self._options, aligner=None)
        return replace(step, request=replace(request, options=options, cancelled=cancelled))

    def _show_partial(self, partial: _PartialResult, cost: StepCost) -> None:
        """Add an update of the open chunk, or of the chunk before, if that has no final text."""
        segment = partial.segment
        if self._awaited is None:
            change = self._text.add_partial(partial.decoded, segment, segment.end)
            self._add_update(partial.step, segment, cost, change)
            return
        text, change = self._text.show_ahead(segment.text)
        start, before = self._awaited.request.chunk.start / SAMPLE_RATE, self._awaited_partial
        if before is not None:
            segment = _joined(before.segment, segment)
        segment = replace(segment, start=start, text=text)
        self._add_update(self._awaited, segment, cost, change, final=False)

    def _add_final(self, step: StreamStep, segment: Segment, cost: StepCost) -> None:
        if self._partial is not None and self._partial.step.request.key == step.request.key:
            self._partial = None
        self._add_update(step, segment, cost, self._text.add_final(segment))

    def _add_update(
        self,
        step: StreamStep,
        segment: Segment,
        cost: StepCost,
        change: LiveChange,
        final: bool | None = None,
    ) -> None:
        final = step.ends if final is None else final
        speakers = None
        if self.speakers is not None:
            chunk = step.request.chunk
            if final:
                speakers = self.speakers.of_final(chunk, segment)
            else:
                speakers = self.speakers.of_settled(chunk, self._text.settled_words)
            segment = self.speakers.shown(segment)
        update = StreamUpdate(
            step.request.key,
            final,
            segment,
            self.seconds,
            cost,
            **vars(change),
            speakers=speakers,
        )
        self._outbox.append(update)


def _joined(first: Segment, second: Segment) -> Segment:
    """The segments of two successive chunks as one of a chunk that may still grow."""
    words = None
    if first.words is not None and second.words is not None:
        own = [word for word in first.words if word.end is None or word.end <= second.start]
        words = (*own, *second.words)
    return replace(
        second,
        tokens=first.tokens + second.tokens,
        logprobs=first.logprobs + second.logprobs,
        token_confidences=first.token_confidences + second.token_confidences,
        word_confidences=first.word_confidences + second.word_confidences,
        words=words,
    )
