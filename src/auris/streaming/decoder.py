"""Pieces that are still being heard, recognized again at every step at the price of what is new.

A live recognizer decodes at every step what is heard of a piece, and finds what decoding all of it
anew would find.
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
from auris.decoding.ctc import blank_logprob, greedy
from auris.decoding.loop import Step
from auris.decoding.speculative import Drafted, continued
from auris.errors import UnsupportedOption
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.fallback import DecodeResult
from auris.recognition.qwen import QwenRecognizer
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import ChunkRequest
from auris.streaming.encoder import EncoderUpdate, IncrementalEncoder, encode_updates
from auris.text.prompt import prompt_ids
from auris.types import FinishReason

__all__ = [
    "IncrementalRecognizer",
    "StepCost",
    "StreamState",
    "StreamStep",
    "incremental_recognizer",
]

FIRST_POSITIONS = 256
"""Positions laid out for a row at first; the cache grows with the pieces."""


@dataclass(frozen=True)
class StepCost:
    """What a step computed.

    Attributes:
        frames: mel frames that were convolved.
        encoded: tokens that went through the encoder's layers.
        decoded: positions that went through the decoder, drafts among them; 0 without one.
    """

    frames: int
    encoded: int
    decoded: int


@dataclass
class StreamState:
    """What one stream keeps of the piece that it is in.

    Attributes:
        hearing: its features and states.
        start: where the piece begins in the stream, in samples.
        row: its row in the decoder's cache.
        fixed: leading positions of the row that hold prompt and audio of this piece.
        draft: what was said at the last step.
        logits: unit scores [N, units + 1] of a CTC model.
    """

    hearing: IncrementalEncoder
    start: int = 0
    row: int = 0
    fixed: int = 0
    draft: tuple[int, ...] = ()
    logits: Tensor | None = None

    def turn_to(self, start: int, config: AutCtcConfig | QwenAsrConfig) -> None:
        """Where another piece begins, nothing of the one before is kept."""
        if start != self.start:
            self.hearing, self.start = IncrementalEncoder(config), start
            self.fixed, self.draft, self.logits = 0, (), None


@dataclass(frozen=True)
class StreamStep:
    """One step of one stream.

    Attributes:
        voice: what it keeps.
        piece: the piece as far as it is heard.
        ends: whether that is all of it.
    """

    voice: StreamState
    piece: ChunkRequest
    ends: bool


@dataclass
class _Said:
    """What was said in a turn so far."""

    tokens: list[int]
    logprobs: list[float]
    reason: FinishReason | None = None
    silence_logprob: float | None = None

    def take(self, step: Step) -> None:
        self.reason = step.finish
        if step.probed is not None:
            self.silence_logprob = step.probed
        if step.token is not None:
            self.tokens.append(step.token)
            self.logprobs.append(step.logprob)

    def attempt(self, piece: ChunkRequest) -> DecodeResult:
        assert self.reason is not None
        tokens, logprobs = tuple(self.tokens), tuple(self.logprobs)
        return DecodeResult(piece, tokens, logprobs, self.reason, self.silence_logprob)


class IncrementalRecognizer(Protocol):
    """Decodes pieces of several streams as they grow."""

    def open(self) -> StreamState:
        """Begin a stream."""

    def close(self, voice: StreamState) -> None:
        """End a stream."""

    def decode(self, turns: Sequence[StreamStep]) -> list[tuple[DecodeResult, StepCost]]:
        """The first attempts of some turns, each of another voice, computed together."""


def incremental_recognizer(recognizer: Recognizer, streams: int) -> IncrementalRecognizer:
    """The live form of a recognizer, for up to `streams` streams at once."""
    if isinstance(recognizer, QwenRecognizer):
        return IncrementalQwen(recognizer, streams)
    if isinstance(recognizer, CtcRecognizer):
        return IncrementalCtc(recognizer)
    raise UnsupportedOption(
        "Live streams need a model of their own",
        f"this one is shared through a {type(recognizer).__name__}",
        "load it with AsrPipeline.from_pretrained",
    )


class IncrementalCtc:
    """A CTC model: scores of closed windows are kept, the best path is read anew at every step."""

    def __init__(self, recognizer: CtcRecognizer) -> None:
        self._recognizer = recognizer
        self._backend = recognizer.backend
        self._config = recognizer.config

    def open(self) -> StreamState:
        """See `IncrementalRecognizer.open`."""
        return StreamState(IncrementalEncoder(self._config))

    def close(self, voice: StreamState) -> None:
        """See `IncrementalRecognizer.close`: nothing is shared."""

    def decode(self, turns: Sequence[StreamStep]) -> list[tuple[DecodeResult, StepCost]]:
        """See `IncrementalRecognizer.decode`."""
        heard = _heard(self._recognizer, turns)
        fresh = self._backend.ctc_logits([one.states[one.kept :] for one in heard])
        done = []
        for turn, one, scores in zip(turns, heard, fresh, strict=True):
            voice = turn.voice
            kept = [] if voice.logits is None else [voice.logits[: one.kept]]
            voice.logits = torch.cat((*kept, scores))
            path = greedy(voice.logits, self._config.blank)
            silence = blank_logprob(voice.logits, self._config.blank)
            attempt = DecodeResult(turn.piece, path.ids, path.logprobs, "stop", silence)
            done.append((attempt, StepCost(one.frames, one.contextualized, 0)))
        return done


class IncrementalQwen:
    """A model with a decoder: every stream has a row of one cache.

    The row holds the prompt up to the audio, the audio, the end of the prompt and what was said.
    At a step it is rolled back to the last audio token that has not changed; what follows, and the
    text of the step before as a draft, is one pass.
    """

    def __init__(self, recognizer: QwenRecognizer, streams: int) -> None:
        self._recognizer = recognizer
        self._backend = recognizer.backend
        self._streams = streams
        self._cache: Cache | None = None
        self._voices: list[StreamState] = []

    def open(self) -> StreamState:
        """See `IncrementalRecognizer.open`."""
        if self._cache is None:
            self._cache = self._backend.new_cache(self._streams, FIRST_POSITIONS)
        (row,) = self._backend.admit(self._cache)
        voice = StreamState(IncrementalEncoder(self._recognizer.config), row=row)
        self._voices.append(voice)
        return voice

    def close(self, voice: StreamState) -> None:
        """See `IncrementalRecognizer.close`; the last row takes the place of the one that ends."""
        assert self._cache is not None
        self._backend.drop(self._cache, voice.row)
        last = self._voices.pop()
        if last is not voice:
            self._voices[voice.row] = last
            last.row = voice.row
        if not self._voices:
            # It may have grown with a long prompt or a long chunk; the next stream begins anew.
            self._cache = None

    def decode(self, turns: Sequence[StreamStep]) -> list[tuple[DecodeResult, StepCost]]:
        """See `IncrementalRecognizer.decode`."""
        assert self._cache is not None
        heard = _heard(self._recognizer, turns)
        drafted = [
            self._drafted(key, turn, one)
            for key, (turn, one) in enumerate(zip(turns, heard, strict=True))
        ]
        decoded = [_ahead(item) for item in drafted]
        said = [_Said([], []) for _ in turns]
        for step in continued(self._backend, self._cache, drafted, self._recognizer.stops):
            said[step.key].take(step)
            decoded[step.key] += not step.prefill
        # An audio slot that the model utters stands for no audio, so it cannot be embedded.
        slot = self._recognizer.config.audio_token_id
        done = []
        for turn, one, text, count in zip(turns, heard, said, decoded, strict=True):
            done.append((text.attempt(turn.piece), StepCost(one.frames, one.contextualized, count)))
            turn.voice.draft = tuple(takewhile(lambda token: token != slot, text.tokens))
        return done

    def _drafted(self, key: int, turn: StreamStep, heard: EncoderUpdate) -> Drafted:
        """The turn as a request: what its row does not hold yet."""
        assert self._cache is not None
        voice, options, states = turn.voice, turn.piece.options, heard.states
        model = self._recognizer
        ids = prompt_ids(model.tokenizer, len(states), options.language, options.context)
        first = ids.index(model.config.audio_token_id)
        known = min(voice.fixed, first + heard.kept)
        voice.fixed = first + len(states)
        self._backend.truncate(self._cache, voice.row, known)
        prompt = self._backend.embed(ids[known:], states[max(known - first, 0) :])
        return Drafted(model.request(key, turn.piece, prompt), voice.row, voice.draft)


def _ahead(item: Drafted) -> int:
    """Positions that go through the decoder before it goes on token by token."""
    request = item.request
    beginnings = 0
    if request.openings is not None:
        beginnings = sum(map(len, (*request.openings, *request.kept_openings)))
    return len(request.prompt) + len(item.draft) + beginnings


def _heard(
    recognizer: CtcRecognizer | QwenRecognizer, turns: Sequence[StreamStep]
) -> list[EncoderUpdate]:
    for turn in turns:
        turn.voice.turn_to(turn.piece.chunk.start, recognizer.config)
    return encode_updates(
        recognizer.backend,
        [turn.voice.hearing for turn in turns],
        [turn.piece.chunk.samples for turn in turns],
    )
