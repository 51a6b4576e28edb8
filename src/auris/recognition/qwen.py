"""The recognizer of Qwen3-ASR models: the official prompt, decoding, fallback."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from auris.audio.features import log_mel
from auris.backends.base import Backend
from auris.checkpoints.calibration import Calibration
from auris.checkpoints.validation import check_vocabulary
from auris.config import QwenAsrConfig, token_budget
from auris.decoding.ctc import greedy
from auris.decoding.loop import DecodeLoop, Request, Step, decode
from auris.decoding.sampling import Probe
from auris.recognition.fallback import DecodeResult, FallbackPolicy, FallbackResult
from auris.recognition.recognizer import finish_segment
from auris.recognition.requests import ChunkRequest, ChunkResult, DecodeOptions, add_time
from auris.recognition.segments import SegmentWriter
from auris.text.prompt import END_OF_TEXT, TURN_END, opening_ids, prompt_ids
from auris.text.reply import Reply, ends_before_text, parse_reply
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, FinishReason, Segment

__all__ = ["QwenBatch", "QwenRecognizer"]

DRAFT_LANGUAGE = "English"
"""Language of drafts where the model chooses it: the CTC heads so far write no other."""

FINAL_ROWS = 2
"""Rows of the batch in which a chunk of a stream is finished: a fallback cuts it in two."""

NO_LETTER = "\ufffd"
"""What bytes that form no letter are decoded to."""


class QwenRecognizer:
    """A model with a decoder that answers the official prompt.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its vocabulary.
        stops: ids that end a text; by default the tokenizer's own stop tokens.
        calibration: what the model's probabilities are worth.
        drafting: scores units by a CTC head over the same encoder, to guess texts that the decoder
            then verifies, see `auris.decoding.drafts`; None guesses nothing.

    Raises:
        TokenizerError: the vocabulary lacks a control token.
        ConfigError: config and tokenizer mean different audio slots.
    """

    def __init__(
        self,
        backend: Backend,
        config: QwenAsrConfig,
        tokenizer: Tokenizer,
        stops: Iterable[int] | None = None,
        calibration: Calibration | None = None,
        drafting: Backend | None = None,
    ) -> None:
        self.backend = backend
        self.drafting = drafting
        self.config = config
        self.tokenizer = tokenizer
        named = (tokenizer.id(END_OF_TEXT), tokenizer.id(TURN_END))
        self.stops = frozenset(named if stops is None else stops)
        check_vocabulary(config, tokenizer)
        self._writer = SegmentWriter(tokenizer, self._reply, calibration)
        self._none = _none_probe(tokenizer)

    def check(self, options: DecodeOptions) -> None:
        """See `Recognizer.check`: this kind of model honours them all.

        Raises:
            UsageError: the context is no text that can be encoded.
        """
        self.tokenizer.encode(options.context)
        if options.aligner is not None:
            options.aligner.check(options.language)

    def batch(self, rows: int) -> QwenBatch:
        """See `Recognizer.batch`."""
        return QwenBatch(self, rows)

    def partial(self, result: DecodeResult) -> Segment:
        """See `Recognizer.partial`."""
        return self.segment(result.piece, FallbackResult((result,)), {}, partial=True)

    def final(self, result: DecodeResult) -> Segment:
        """See `Recognizer.final`."""
        if result.silence_logprob is None:
            steps = decode(self.backend, [self.prepare(0, result.piece, {})], self.stops)
            probed = next((step.probed for step in steps if step.probed is not None), None)
            result = replace(result, silence_logprob=probed)
        batch = QwenBatch(self, FINAL_ROWS)
        done = batch.add_decoded(result)
        while not done:
            done = batch.step()
        return done[0].segment

    def prepare(self, key: int, chunk: ChunkRequest, timings: dict[str, float]) -> Request:
        """The decode request of a chunk: features, encoder, prompt, draft.

        Args:
            key: names the decode request.
            timings: receives the time of each stage.
        """
        now = time.perf_counter()
        features = log_mel(chunk.chunk.samples, self.config.frontend, self.config.encoder.mel_bins)
        now = add_time(timings, "mel", now)
        (states,) = self.backend.encode([features])
        now = add_time(timings, "encode", now)
        options = chunk.options
        ids = prompt_ids(self.tokenizer, len(states), options.language, options.context)
        prompt = self.backend.embed(ids, states)
        request = self.request(key, chunk, prompt, self._draft(states, options))
        add_time(timings, "prefill", now)
        return request

    def request(
        self, key: int, piece: ChunkRequest, prompt: Tensor, draft: tuple[int, ...] = ()
    ) -> Request:
        """What is asked of the decode loop for a piece.

        Args:
            prompt: embeddings [L, hidden] of its prompt, or of the end of it that a cache row
                does not hold yet.
            draft: ids that may follow.
        """
        options, samples = piece.options, piece.chunk.samples
        budget = options.max_new_tokens
        if budget is None:
            budget = token_budget(len(samples) / SAMPLE_RATE)
        openings, none = None, opening_ids(self.tokenizer, None)
        if options.languages is not None:
            openings = tuple(opening_ids(self.tokenizer, name) for name in options.languages)
        share = len(samples) / SAMPLE_RATE / options.batch_seconds
        probe = self._probe(options)
        return Request(
            key,
            prompt,
            budget,
            options.sampling,
            openings,
            (none,),
            share,
            probe,
            piece.cancelled,
            draft,
        )

    def _draft(self, states: Tensor, options: DecodeOptions) -> tuple[int, ...]:
        """What the CTC head hears; its units are the decoder's tokens."""
        if self.drafting is None or options.sampling.temperature:
            return ()
        (logits,) = self.drafting.ctc_logits([states])
        # No head tells the language; a wrong guess of it costs nothing but the guess.
        opening = () if options.language else opening_ids(self.tokenizer, DRAFT_LANGUAGE)
        return (*opening, *greedy(logits, self.config.decoder.vocab).ids)

    def _probe(self, options: DecodeOptions) -> Probe:
        """Where the model says that there is no speech: it names the language "None", or ends a
        text at once whose language it was given."""
        return self._none if options.language is None else Probe(0, tuple(sorted(self.stops)))

    def segment(
        self,
        chunk: ChunkRequest,
        result: FallbackResult,
        timings: dict[str, float],
        partial: bool = False,
    ) -> Segment:
        """The segment of a chunk.

        Args:
            result: its decodings that count.
            timings: receives the time of the alignment.
            partial: whether the chunk may still grow.
        """
        segment = self._writer.segment(chunk, result)
        return finish_segment(segment, chunk.chunk.samples, chunk.options, timings, partial)

    def text(self, result: DecodeResult) -> str:
        """The text of a decoding."""
        return self._reply(result).text

    def _reply(self, attempt: DecodeResult) -> Reply:
        said = self.tokenizer.decode(attempt.said(self.tokenizer))
        language = attempt.piece.options.language
        unfinished = attempt.reason in ("length", "cancelled")
        if unfinished and language is None and ends_before_text(said):
            return Reply(None, "")
        reply = parse_reply(said, language)
        # The first unit of a loop may end in half a letter.
        cut = attempt.reason == "loop"
        return replace(reply, text=reply.text.rstrip(NO_LETTER)) if cut else reply


@dataclass
class _Decoding:
    """A decoding that waits or is active: the first of a chunk, or one of its fallback."""

    request: ChunkRequest
    timings: dict[str, float]
    fallback: FallbackPolicy | None = None
    place: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    silence_logprob: float | None = None

    def add(self, step: Step) -> None:
        """Record a step of the decode loop."""
        stage = "prefill" if step.prefill else "decode"
        self.timings[stage] = self.timings.get(stage, 0.0) + step.seconds
        if step.probed is not None:
            self.silence_logprob = step.probed
        if step.token is not None:
            self.tokens.append(step.token)
            self.logprobs.append(step.logprob)

    def result(self, reason: FinishReason) -> DecodeResult:
        """What was decoded, with the reason why it ended."""
        tokens, logprobs = tuple(self.tokens), tuple(self.logprobs)
        return DecodeResult(self.request, tokens, logprobs, reason, self.silence_logprob)


class QwenBatch:
    """Chunks in one decode loop. A fallback is decoded before chunks that were not begun.

    Args:
        recognizer: the model.
        rows: most decodings at once.
    """

    def __init__(self, recognizer: QwenRecognizer, rows: int) -> None:
        self._recognizer = recognizer
        self._loop = DecodeLoop(recognizer.backend, recognizer.stops, rows)
        self._waiting: deque[_Decoding] = deque()
        self._prepared: tuple[_Decoding, Request] | None = None
        self._active: dict[int, _Decoding] = {}
        self._keys = itertools.count()
        self._pending = 0

    @property
    def pending(self) -> int:
        """See `ChunkBatch.pending`."""
        return self._pending

    def has_room(self) -> bool:
        """See `ChunkBatch.has_room`."""
        return self._prepared is None and len(self._waiting) < self._loop.free_rows

    def add(self, request: ChunkRequest) -> None:
        """See `ChunkBatch.add`."""
        self._pending += 1
        self._waiting.append(_Decoding(request, {}))

    def add_decoded(self, result: DecodeResult) -> list[ChunkResult]:
        """Take a chunk whose first decoding was done elsewhere; returns its result if complete."""
        self._pending += 1
        return self._decoded(_Decoding(result.piece, {}), result)

    def step(self) -> list[ChunkResult]:
        """See `ChunkBatch.step`: fill the free rows, then one pass over all rows."""
        done: list[ChunkResult] = []
        while self._loop.free_rows and (self._prepared is not None or self._waiting):
            if self._prepared is None:
                self._prepared = self._prepare(self._waiting.popleft())
            decoding, request = self._prepared
            if not self._loop.fits(request):
                break
            self._prepared = None
            self._active[request.key] = decoding
            done += self._take(self._loop.admit(request))
        return done + self._take(self._loop.step())

    def cancel(self) -> list[ChunkResult]:
        """See `ChunkBatch.cancel`."""
        begun: dict[int, tuple[FallbackPolicy, dict[str, float]]] = {}
        waiting = [decoding for decoding in self._waiting if decoding.fallback is not None]
        for decoding in [*self._active.values(), *waiting]:
            fallback = decoding.fallback or FallbackPolicy(
                decoding.result("cancelled"), self._recognizer.text
            )
            begun[id(fallback)] = fallback, decoding.timings
        self._active.clear()
        self._waiting.clear()
        self._pending = 0
        return [self._result(policy, policy.cancel(), times) for policy, times in begun.values()]

    def _prepare(self, decoding: _Decoding) -> tuple[_Decoding, Request]:
        key = next(self._keys)
        return decoding, self._recognizer.prepare(key, decoding.request, decoding.timings)

    def _take(self, steps: Iterable[Step]) -> list[ChunkResult]:
        done = []
        for step in steps:
            decoding = self._active[step.key]
            decoding.add(step)
            if step.finish is not None:
                del self._active[step.key]
                done += self._decoded(decoding, decoding.result(step.finish))
        return done

    def _decoded(self, decoding: _Decoding, result: DecodeResult) -> list[ChunkResult]:
        """A decoding is over: the chunk has its result, or its fallback goes on."""
        fallback = decoding.fallback
        if fallback is None:
            fallback = FallbackPolicy(result, self._recognizer.text)
        elif not fallback.take(decoding.place, result):
            return []
        for place, request in reversed(list(enumerate(fallback.wanted))):
            self._waiting.appendleft(_Decoding(request, decoding.timings, fallback, place))
        if fallback.outcome is None:
            return []
        self._pending -= 1
        return [self._result(fallback, fallback.outcome, decoding.timings)]

    def _result(
        self, fallback: FallbackPolicy, outcome: FallbackResult, timings: dict[str, float]
    ) -> ChunkResult:
        chunk = fallback.first.piece
        segment = self._recognizer.segment(chunk, outcome, timings)
        return ChunkResult(chunk.key, segment, timings)


def _none_probe(tokenizer: Tokenizer) -> Probe:
    """The first token in which a reply without speech differs from one in some language."""
    none, some = (tokenizer.encode(f"language {name}") for name in ("None", "English"))
    place = next(n for n, (one, other) in enumerate(zip(none, some, strict=False)) if one != other)
    return Probe(place, (none[place],))
