"""Incremental recognizers: decode growing chunks of streams at every step.

The result of a step is the same as if the whole chunk so far were decoded anew, but only what is
new since the step before is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from auris.backends.base import Cache
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.decoding.speculative import DraftedRequest, decode_drafts
from auris.decoding.static_rows import StaticRows, new_rows
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.qwen import QwenRecognizer, needs_search
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import (
    ChunkRequest,
    DecodedTokens,
    DecodeResult,
    EncodedChunk,
)
from auris.streaming.encoder import EncoderUpdate, IncrementalEncoder, encode_updates
from auris.text.prompt import prompt_ids
from auris.types import FinishReason

FIRST_POSITIONS = 256
"""Cache positions of a row at first; the cache grows with the chunks."""


@dataclass(frozen=True)
class StepCost:
    """The amount of work of a step, without searches.

    Attributes:
        frames: feature frames that went through the stem.
        encoded: positions that went through the encoder's layers.
        decoded: positions of the decoder's pass over prompt and draft, and one for each later
            token; 0 without a decoder.
    """

    frames: int
    encoded: int
    decoded: int


@dataclass
class StreamState:
    """The state of one stream, for its current chunk.

    Attributes:
        encoder: features and states of the chunk.
        start: where the chunk begins in the stream, in samples.
        row: the stream's row in the decoder's cache.
        fixed: leading positions of the row that hold prompt and audio. What comes before the audio
            is the same in all chunks.
        draft: the tokens of the last step.
        logits: unit scores [N, units + 1] of a CTC head; None without one, or if they are not used.
    """

    encoder: IncrementalEncoder
    start: int = 0
    row: int = 0
    fixed: int = 0
    draft: tuple[int, ...] = ()
    logits: Tensor | None = None

    def begin_chunk(self, start: int, config: AutCtcConfig | QwenAsrConfig) -> None:
        """Reset the state if another chunk begins at `start`."""
        if start != self.start:
            self.encoder, self.start = IncrementalEncoder(config), start
            self.draft, self.logits = (), None

    def add_scores(self, unchanged: int, scores: Tensor) -> None:
        """Put new unit scores behind the first `unchanged` ones."""
        before = [] if self.logits is None else [self.logits[:unchanged]]
        self.logits = torch.cat((*before, scores))


@dataclass(frozen=True)
class StreamStep:
    """One step of one stream: the chunk so far, complete if it `ends`.

    If words of the stream may settle (`settles`), the CTC head scores a chunk that may still grow.
    """

    state: StreamState
    request: ChunkRequest
    ends: bool
    settles: bool = True


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        decoded: its tokens; None if the chunk has to be searched, which is done apart.
        encoded: of the chunk so far. Its unit scores are None where no CTC head scores them.
        cost: the amount of work.
    """

    decoded: DecodeResult | None
    encoded: EncodedChunk
    cost: StepCost


class IncrementalRecognizer(Protocol):
    """Decodes the growing chunks of several streams."""

    def open(self) -> StreamState:
        """Begin a stream."""

    def close(self, state: StreamState) -> None:
        """End a stream."""

    def decode(self, steps: Sequence[StreamStep]) -> list[StepResult]:
        """Encode one step of each stream, together, and decode those without a search; returns
        results in the same order."""


def incremental_recognizer(recognizer: Recognizer, streams: int) -> IncrementalRecognizer:
    """The incremental form of a recognizer, for up to `streams` streams at once."""
    if isinstance(recognizer, QwenRecognizer):
        return IncrementalQwen(recognizer, streams)
    assert isinstance(recognizer, CtcRecognizer)
    return IncrementalCtc(recognizer)


class IncrementalCtc:
    """A CTC model: scores of finished windows are stored; each step computes the path again."""

    def __init__(self, recognizer: CtcRecognizer) -> None:
        self._recognizer = recognizer
        self._backend = recognizer.backend
        self._config = recognizer.config

    def open(self) -> StreamState:
        return StreamState(IncrementalEncoder(self._config))

    def close(self, state: StreamState) -> None:
        """End a stream. Streams of a CTC model share nothing, so there is nothing to do."""

    def decode(self, steps: Sequence[StreamStep]) -> list[StepResult]:
        updates = _encode(self._recognizer, steps)
        fresh = self._backend.ctc_logits([update.states[update.unchanged :] for update in updates])
        done = []
        for step, update, scores in zip(steps, updates, fresh, strict=True):
            step.state.add_scores(update.unchanged, scores)
            assert step.state.logits is not None
            decoded = None
            if not needs_search(step.request.options):
                decoded = self._recognizer.decoded(step.request, step.state.logits)
            encoded = EncodedChunk(update.states, step.state.logits)
            done.append(StepResult(decoded, encoded, StepCost(update.frames, update.encoded, 0)))
        return done


class IncrementalQwen:
    """A model with a decoder: every stream has a row of one cache.

    The row holds the prompt up to the audio, the audio, the end of the prompt and the text. At each
    step the row is truncated to the last audio position that has not changed, for another chunk to
    where the audio begins. The rest of the prompt, with the text of the step before as a draft,
    goes through the decoder in one pass.
    """

    def __init__(self, recognizer: QwenRecognizer, streams: int) -> None:
        self._recognizer = recognizer
        self._backend = recognizer.backend
        self._streams = streams
        self._cache: Cache | None = None
        self._static: StaticRows | None = None
        self._states: list[StreamState] = []

    def open(self) -> StreamState:
        if self._cache is None:
            rows, stops = self._streams, self._recognizer.stops
            self._cache, self._static = new_rows(self._backend, rows, rows, FIRST_POSITIONS, stops)
        (row,) = self._backend.admit(self._cache)
        state = StreamState(IncrementalEncoder(self._recognizer.config), row=row)
        self._states.append(state)
        return state

    def close(self, state: StreamState) -> None:
        """End a stream; the last row of the cache takes the index of its row."""
        assert self._cache is not None
        self._backend.drop(self._cache, state.row)
        last = self._states.pop()
        if last is not state:
            self._states[state.row] = last
            last.row = state.row
        if not self._states:
            # It may have grown with a long prompt or chunk; the next stream begins with a new one.
            self._cache = self._static = None

    def decode(self, steps: Sequence[StreamStep]) -> list[StepResult]:
        updates = _encode(self._recognizer, steps)
        pairs = list(zip(steps, updates, strict=True))
        results = self._with_drafts(
            [pair for pair in pairs if not needs_search(pair[0].request.options)]
        )
        scored = self._score_units(pairs)
        done = []
        for step, update in pairs:
            row = step.state.row
            decoded, positions = results.get(row, (None, 0))
            encoded = EncodedChunk(update.states, step.state.logits if row in scored else None)
            cost = StepCost(update.frames, update.encoded, positions)
            done.append(StepResult(decoded, encoded, cost))
        return done

    def _with_drafts(
        self, pairs: Sequence[tuple[StreamStep, EncoderUpdate]]
    ) -> dict[int, tuple[DecodeResult, int]]:
        """By row, results and how many positions were decoded."""
        assert self._cache is not None
        drafted = [self._drafted(key, *pair) for key, pair in enumerate(pairs)]
        positions = [_first_pass_positions(item) for item in drafted]
        texts = [DecodedTokens() for _ in pairs]
        reasons: list[FinishReason | None] = [None for _ in pairs]
        stops, static = self._recognizer.stops, self._static
        for token in decode_drafts(self._backend, self._cache, drafted, stops, static):
            texts[token.key].add(token)
            reasons[token.key] = token.finish
            positions[token.key] += not token.prefill
        # A draft ends before an audio slot that the model has written, since it has no audio.
        slot = self._recognizer.config.audio_token_id
        done = {}
        for key, (step, _) in enumerate(pairs):
            reason = reasons[key]
            assert reason is not None
            done[step.state.row] = texts[key].result(step.request, reason), positions[key]
            step.state.draft = tuple(takewhile(lambda token: token != slot, texts[key].tokens))
        return done

    def _score_units(self, pairs: Sequence[tuple[StreamStep, EncoderUpdate]]) -> set[int]:
        """The scores of the CTC head, which place words that may settle, and are part of searches;
        returns the rows of the streams that have them."""
        scored = [
            (step.state, update)
            for step, update in pairs
            if needs_search(step.request.options) or (step.settles and not step.ends)
        ]
        head = self._recognizer.ctc_head() if scored else None
        if head is None:
            return set()
        # Steps without scores may have come before.
        known = [
            0 if state.logits is None else min(update.unchanged, len(state.logits))
            for state, update in scored
        ]
        parts = [update.states[begin:] for begin, (_, update) in zip(known, scored, strict=True)]
        for begin, (state, _), fresh in zip(known, scored, head.ctc_logits(parts), strict=True):
            state.add_scores(begin, fresh)
        return {state.row for state, _ in scored}

    def _drafted(self, key: int, step: StreamStep, update: EncoderUpdate) -> DraftedRequest:
        """The request of a step, with the part of the prompt that its row does not hold."""
        assert self._cache is not None
        state, states = step.state, update.states
        model = self._recognizer
        ids = _prompt(model, step, update)
        first = ids.index(model.config.audio_token_id)
        known = min(state.fixed, first + update.unchanged)
        state.fixed = first + len(states)
        self._backend.truncate(self._cache, state.row, known)
        prompt = self._backend.embed(ids[known:], states[max(known - first, 0) :])
        request = model.decode_request(key, step.request, prompt)
        return DraftedRequest(request, state.row, state.draft)


def _prompt(model: QwenRecognizer, step: StreamStep, update: EncoderUpdate) -> list[int]:
    """The prompt of the chunk so far."""
    options = step.request.options
    return prompt_ids(model.tokenizer, len(update.states), options.language, options.context)


def _first_pass_positions(item: DraftedRequest) -> int:
    """Positions that go through the decoder before it continues token by token."""
    request = item.request
    prefixes = 0
    if request.prefixes is not None:
        prefixes = sum(map(len, (*request.prefixes, *request.allowed_prefixes)))
    return len(request.prompt) + len(item.draft) + prefixes


def _encode(
    recognizer: CtcRecognizer | QwenRecognizer, steps: Sequence[StreamStep]
) -> list[EncoderUpdate]:
    for step in steps:
        step.state.begin_chunk(step.request.chunk.start, recognizer.config)
        if needs_search(step.request.options):
            step.state.encoder.forget_stem()
    return encode_updates(
        recognizer.backend,
        [step.state.encoder for step in steps],
        [step.request.chunk.samples for step in steps],
    )
