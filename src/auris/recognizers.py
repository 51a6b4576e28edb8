"""From pieces of audio to segments of text: one recognizer for every kind of model.

A recognizer takes pieces as it gets to them and gives each one's segment as soon as it is done,
which need not be in the order of the pieces.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from auris.audio.mel import log_mel
from auris.backends.base import Backend
from auris.config import AlignerConfig, AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.decoding.ctc import greedy
from auris.decoding.loop import Request, Step, decode
from auris.decoding.sampling import Sampling
from auris.errors import CheckpointError, ConfigError, UnsupportedOption
from auris.text.cleanup import clean
from auris.text.prompt import (
    AUDIO_PAD,
    END_OF_TEXT,
    TIMESTAMP,
    TURN_END,
    alignment_ids,
    prompt_ids,
)
from auris.text.reply import parse_reply
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, Chunk, FinishReason, Segment

__all__ = [
    "Attempt",
    "CtcRecognizer",
    "Options",
    "Piece",
    "QwenRecognizer",
    "Recognized",
    "Recognizer",
    "check_language",
    "check_scores",
    "check_vocabulary",
    "stop_ids",
    "token_budget",
]

TOKENS_PER_SECOND = 16
"""Token budget for every second of audio, about three times the fastest speech."""

TOKENS_BESIDES = 64
"""Token budget beside that: for the language tag, and for the shortest pieces."""


@dataclass(frozen=True)
class Options:
    """How a recording is transcribed.

    Attributes:
        language: English name to force, or None for the model's choice.
        context: words and names to expect.
        max_new_tokens: token budget of a piece, or None for one that follows its length.
        sampling: how tokens are chosen.
        clean: clean-up of the text, see `auris.text.cleanup`.
    """

    language: str | None = None
    context: str = ""
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    clean: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of audio to recognize; `key` names it in the results."""

    key: int
    chunk: Chunk
    options: Options


@dataclass(frozen=True)
class Attempt:
    """What one decoding of a piece gave.

    Attributes:
        piece: what was decoded, and how.
        tokens: without the stop token.
        logprobs: natural-log probability of each.
        reason: why the decoding ended.
    """

    piece: Piece
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: FinishReason


@dataclass(frozen=True)
class Recognized:
    """A piece's segment, and seconds of work per stage."""

    key: int
    segment: Segment
    timings: dict[str, float]


class Recognizer(Protocol):
    """What a pipeline asks of a model of any kind."""

    @property
    def config(self) -> AutCtcConfig | QwenAsrConfig:
        """The model's shapes."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""

    def check(self, options: Options) -> None:
        """Refuse options that the model cannot honour, before any work."""

    def recognize(
        self, pieces: Iterable[Piece], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """Recognize pieces, up to `rows` at once, until told to stop.

        After `cancelled` says true, pieces under way end as they are and no other begins.
        """

    def provisional(self, attempt: Attempt) -> Segment:
        """The segment of a piece that is still being heard: of its first attempt alone."""

    def commit(self, attempt: Attempt) -> Recognized:
        """The segment of a piece that was decoded elsewhere.

        It is the segment that `recognize` gives for a piece with this first attempt.
        """


def _clock(timings: dict[str, float], stage: str, began: float) -> float:
    """Book the time since `began` to a stage; returns now."""
    now = time.perf_counter()
    timings[stage] = timings.get(stage, 0.0) + now - began
    return now


@dataclass
class _Draft:
    """A piece under way."""

    piece: Piece
    timings: dict[str, float]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def take(self, step: Step) -> None:
        stage = "prefill" if step.prefill else "decode"
        self.timings[stage] = self.timings.get(stage, 0.0) + step.seconds
        if step.token is not None:
            self.tokens.append(step.token)
            self.logprobs.append(step.logprob)

    def attempt(self, reason: FinishReason) -> Attempt:
        return Attempt(self.piece, tuple(self.tokens), tuple(self.logprobs), reason)


def _segment(attempt: Attempt, language: str | None, text: str) -> Segment:
    check_scores(attempt.logprobs)
    chunk = attempt.piece.chunk
    start = chunk.start / SAMPLE_RATE
    return Segment(
        start=start,
        end=start + len(chunk.samples) / SAMPLE_RATE,
        text=clean(text, attempt.piece.options.clean, language),
        language=language,
        tokens=attempt.tokens,
        logprobs=attempt.logprobs,
        finish_reason=attempt.reason,
        speaker=chunk.speaker,
    )


def check_scores(logprobs: Iterable[float]) -> None:
    """Log-probabilities have to be numbers.

    Raises:
        CheckpointError: one is NaN.
    """
    if any(map(math.isnan, logprobs)):
        raise CheckpointError(
            "A model's scores have to be numbers",
            "they are NaN: the weights are damaged, or too large for this dtype",
            "choose --dtype float32, or fetch the checkpoint anew",
        )


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """A config and a tokenizer have to mean the same ids.

    Raises:
        ConfigError: they do not.
        TokenizerError: the vocabulary lacks a control token.
    """
    remedy = "use the tokenizer files that belong to the weights"
    if isinstance(config, AutCtcConfig):
        if tokenizer.size != config.units:
            raise ConfigError(
                "A CTC head has to have one class for every unit of the tokenizer",
                f"there are {config.units} classes for {tokenizer.size} units",
                remedy,
            )
        return
    if isinstance(config, AlignerConfig):
        alignment_ids(tokenizer, 1, ["a"])  # Names every control token that a prompt needs.
        if tokenizer.id(TIMESTAMP) != config.timestamp_token_id:
            raise ConfigError(
                f"timestamp_token_id in config.json has to be the tokenizer's id of {TIMESTAMP}",
                f"they are {config.timestamp_token_id} and {tokenizer.id(TIMESTAMP)}",
                remedy,
            )
    else:
        prompt_ids(tokenizer, 1, "English")
    if tokenizer.id(AUDIO_PAD) != config.audio_token_id:
        raise ConfigError(
            f"audio_token_id in config.json has to be the tokenizer's id of {AUDIO_PAD}",
            f"they are {config.audio_token_id} and {tokenizer.id(AUDIO_PAD)}",
            remedy,
        )
    if tokenizer.size > config.decoder.vocab:
        raise ConfigError(
            "Every id of the tokenizer has to have a row in the embedding",
            f"there are ids up to {tokenizer.size - 1} and {config.decoder.vocab} rows",
            remedy,
        )


def check_language(config: AutCtcConfig, language: str | None) -> None:
    """Refuse a language that a CTC model does not write.

    Raises:
        UnsupportedOption: it writes another.
    """
    if language not in (None, config.language):
        raise UnsupportedOption(
            f"This model writes {config.language} only",
            f"{language} was asked",
            "leave --language out, or choose a model that knows the language",
        )


def stop_ids(config: QwenAsrConfig, generation: Mapping[str, Any] | None) -> list[int] | None:
    """Stop ids of a generation_config.json; None leaves them to the tokenizer.

    Raises:
        ConfigError: they are no ids of the vocabulary.
    """
    ids = (generation or {}).get("eos_token_id")
    if ids is None:
        return None
    listed = ids if isinstance(ids, list) else [ids]
    vocabulary = range(config.decoder.vocab)
    if not listed or not all(type(number) is int and number in vocabulary for number in listed):
        raise ConfigError(
            "eos_token_id in generation_config.json has to be an id of the vocabulary, or several",
            f"it is {ids!r}",
            "use the generation_config.json that belongs to the weights",
        )
    return listed


def token_budget(seconds: float) -> int:
    """Most tokens of a piece's text, unless a caller says otherwise."""
    return TOKENS_BESIDES + int(TOKENS_PER_SECOND * seconds)


class QwenRecognizer:
    """A model with a decoder that answers the official prompt.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its vocabulary.
        stops: ids that end a text; by default the tokenizer's own stop tokens.

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
    ) -> None:
        self.backend = backend
        self.config = config
        self.tokenizer = tokenizer
        named = (tokenizer.id(END_OF_TEXT), tokenizer.id(TURN_END))
        self.stops = frozenset(named if stops is None else stops)
        check_vocabulary(config, tokenizer)

    def check(self, options: Options) -> None:
        """See `Recognizer.check`: this kind of model honours them all.

        Raises:
            UsageError: the context is no text that can be encoded.
        """
        self.tokenizer.encode(options.context)

    def _request(self, piece: Piece, drafts: dict[int, _Draft]) -> Request:
        timings: dict[str, float] = {}
        options = piece.options
        now = time.perf_counter()
        mel = log_mel(piece.chunk.samples, self.config.frontend, self.config.encoder.mel_bins)
        now = _clock(timings, "mel", now)
        (states,) = self.backend.encode([mel])
        now = _clock(timings, "encode", now)
        ids = prompt_ids(self.tokenizer, len(states), options.language, options.context)
        prompt = self.backend.embed(ids, states)
        _clock(timings, "prefill", now)
        drafts[piece.key] = _Draft(piece, timings)
        seconds = len(piece.chunk.samples) / SAMPLE_RATE
        budget = options.max_new_tokens
        if budget is None:
            budget = token_budget(seconds)
        return Request(piece.key, prompt, budget, options.sampling)

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`."""
        text = self.tokenizer.decode(attempt.tokens)
        reply = parse_reply(text, attempt.piece.options.language)
        return _segment(attempt, reply.language, reply.text)

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`."""
        return Recognized(attempt.piece.key, self.provisional(attempt), {})

    def _finish(self, draft: _Draft, reason: FinishReason) -> Recognized:
        return replace(self.commit(draft.attempt(reason)), timings=draft.timings)

    def recognize(
        self, pieces: Iterable[Piece], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`."""
        drafts: dict[int, _Draft] = {}
        requests = (self._request(p, drafts) for p in _until(pieces, cancelled))
        for step in decode(self.backend, requests, self.stops, rows):
            drafts[step.key].take(step)
            if step.finish is not None:
                yield self._finish(drafts.pop(step.key), step.finish)
            if cancelled():
                break
        for draft in drafts.values():
            yield self._finish(draft, "cancelled")


class CtcRecognizer:
    """An encoder with a CTC head: every piece is one pass.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its text units.

    Raises:
        ConfigError: the tokenizer has another number of units than the head.
    """

    def __init__(self, backend: Backend, config: AutCtcConfig, tokenizer: Tokenizer) -> None:
        self.backend = backend
        self.config = config
        self.tokenizer = tokenizer
        check_vocabulary(config, tokenizer)

    def check(self, options: Options) -> None:
        """See `Recognizer.check`.

        Raises:
            UnsupportedOption: a context, a budget, a temperature or another language was asked.
        """
        asked = {
            "--context": options.context != "",
            "--max-new-tokens": options.max_new_tokens is not None,
            "--temperature": options.sampling.temperature != 0.0,
        }
        for option, given in asked.items():
            if given:
                raise UnsupportedOption(
                    f"{option} needs a model with a decoder",
                    "this model has a CTC head only",
                    "leave the option out, or choose a Qwen3-ASR model",
                )
        check_language(self.config, options.language)

    def recognize(
        self, pieces: Iterable[Piece], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`; rows do not matter, since a piece is one pass."""
        for piece in _until(pieces, cancelled):
            timings: dict[str, float] = {}
            now = time.perf_counter()
            config = self.config
            mel = log_mel(piece.chunk.samples, config.frontend, config.encoder.mel_bins)
            now = _clock(timings, "mel", now)
            states = self.backend.encode([mel])
            now = _clock(timings, "encode", now)
            (logits,) = self.backend.ctc_logits(states)
            path = greedy(logits, config.blank)
            _clock(timings, "decode", now)
            done = self.commit(Attempt(piece, path.ids, path.logprobs, "stop"))
            yield replace(done, timings=timings)

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`."""
        text = self.tokenizer.decode(attempt.tokens).strip()
        return _segment(attempt, self.config.language if text else None, text)

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`."""
        return Recognized(attempt.piece.key, self.provisional(attempt), {})


def _until(pieces: Iterable[Piece], cancelled: Callable[[], bool]) -> Iterator[Piece]:
    """Pieces until told to stop; asked before every piece, so that none is read in vain."""
    source = iter(pieces)
    while not cancelled():
        piece = next(source, None)
        if piece is None:
            return
        yield piece
