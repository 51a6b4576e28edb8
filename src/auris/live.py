"""Pieces that are still being heard, recognized again at every step at the price of what is new.

A live recognizer gives at every step what the offline one would give for the piece as far as it is
heard, and for a piece whose end is certain the segment itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from auris.backends.base import Cache
from auris.decoding.loop import Request
from auris.decoding.speculative import Drafted, continued
from auris.hearing import Heard, Hearing, hear
from auris.recognizers import (
    CtcRecognizer,
    Draft,
    Piece,
    QwenRecognizer,
    Recognized,
    Recognizer,
    budget_of,
    clock,
)
from auris.text.prompt import prompt_ids

__all__ = ["Cost", "LiveRecognizer", "Turn", "Voice", "live_recognizer"]

FIRST_POSITIONS = 256
"""Positions laid out for a row at first; the cache grows with the pieces."""


@dataclass(frozen=True)
class Cost:
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
class Voice:
    """What one stream keeps of the piece that it is in.

    Attributes:
        hearing: its features and states.
        row: its row in the decoder's cache.
        fixed: leading positions of the row that hold prompt and audio of this piece.
        draft: what was said at the last step.
        logits: unit scores [N, units + 1] of a CTC model.
    """

    hearing: Hearing
    row: int = 0
    fixed: int = 0
    draft: tuple[int, ...] = ()
    logits: Tensor | None = None


@dataclass(frozen=True)
class Turn:
    """One step of one stream.

    Attributes:
        voice: what it keeps.
        piece: the piece as far as it is heard.
        ends: whether that is all of it, so that the next turn of the voice begins another.
    """

    voice: Voice
    piece: Piece
    ends: bool


class LiveRecognizer(Protocol):
    """Recognizes pieces of several streams as they grow."""

    def open(self) -> Voice:
        """Begin a stream."""

    def close(self, voice: Voice) -> None:
        """End a stream."""

    def recognize(self, turns: Sequence[Turn]) -> list[tuple[Recognized, Cost]]:
        """One step of some streams, each with its own voice, computed together."""


def live_recognizer(recognizer: Recognizer, streams: int) -> LiveRecognizer:
    """The live form of a recognizer, for up to `streams` streams at once."""
    if isinstance(recognizer, QwenRecognizer):
        return LiveQwen(recognizer, streams)
    assert isinstance(recognizer, CtcRecognizer)
    return LiveCtc(recognizer)


class LiveCtc:
    """A CTC model: scores of closed windows are kept, the best path is read anew at every step."""

    def __init__(self, recognizer: CtcRecognizer) -> None:
        self._recognizer = recognizer

    def open(self) -> Voice:
        """See `LiveRecognizer.open`."""
        return Voice(Hearing(self._recognizer.config))

    def close(self, voice: Voice) -> None:
        """See `LiveRecognizer.close`: nothing is shared."""

    def recognize(self, turns: Sequence[Turn]) -> list[tuple[Recognized, Cost]]:
        """See `LiveRecognizer.recognize`."""
        began = time.perf_counter()
        heard = _heard(self._recognizer, turns)
        fresh = self._recognizer.backend.ctc_logits([one.states[one.kept :] for one in heard])
        done = []
        for turn, one, scores in zip(turns, heard, fresh, strict=True):
            before = turn.voice.logits
            logits = scores if before is None else torch.cat((before[: one.kept], scores))
            turn.voice.logits = logits
            timings: dict[str, float] = {}
            clock(timings, "encode", began)
            segment = self._recognizer.finish(turn.piece, timings, logits)
            done.append((segment, Cost(one.frames, one.contextualized, 0)))
            _turn_over(turn, self._recognizer)
        return done


class LiveQwen:
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
        self._voices: list[Voice] = []

    def open(self) -> Voice:
        """See `LiveRecognizer.open`."""
        if self._cache is None:
            self._cache = self._backend.new_cache(self._streams, FIRST_POSITIONS)
        (row,) = self._backend.admit(self._cache)
        voice = Voice(Hearing(self._recognizer.config), row)
        self._voices.append(voice)
        return voice

    def close(self, voice: Voice) -> None:
        """See `LiveRecognizer.close`; the last row takes the place of the one that ends."""
        assert self._cache is not None
        self._backend.drop(self._cache, voice.row)
        last = self._voices.pop()
        if last is not voice:
            self._voices[voice.row] = last
            last.row = voice.row

    def recognize(self, turns: Sequence[Turn]) -> list[tuple[Recognized, Cost]]:
        """See `LiveRecognizer.recognize`."""
        assert self._cache is not None
        began = time.perf_counter()
        heard = _heard(self._recognizer, turns)
        share = (time.perf_counter() - began) / len(turns)
        drafts = [Draft(turn.piece, {"encode": share}) for turn in turns]
        drafted = [
            self._drafted(key, turn, one)
            for key, (turn, one) in enumerate(zip(turns, heard, strict=True))
        ]
        decoded = [len(item.request.prompt) + len(item.draft) for item in drafted]
        done: dict[int, Recognized] = {}
        for step in continued(self._backend, self._cache, drafted, self._recognizer.stops):
            drafts[step.key].take(step)
            decoded[step.key] += not step.prefill
            if step.finish is not None:
                done[step.key] = self._recognizer.finish(drafts[step.key], step.finish)
        for turn, draft in zip(turns, drafts, strict=True):
            turn.voice.draft = tuple(draft.tokens)
            _turn_over(turn, self._recognizer)
        return [
            (done[key], Cost(one.frames, one.contextualized, decoded[key]))
            for key, one in enumerate(heard)
        ]

    def _drafted(self, key: int, turn: Turn, heard: Heard) -> Drafted:
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
        request = Request(key, prompt, budget_of(turn.piece), options.sampling)
        return Drafted(request, voice.row, voice.draft)


def _heard(recognizer: CtcRecognizer | QwenRecognizer, turns: Sequence[Turn]) -> list[Heard]:
    return hear(
        recognizer.backend,
        [turn.voice.hearing for turn in turns],
        [turn.piece.chunk.samples for turn in turns],
    )


def _turn_over(turn: Turn, recognizer: CtcRecognizer | QwenRecognizer) -> None:
    """Behind the end of a piece nothing of it is kept."""
    if turn.ends:
        turn.voice.hearing = Hearing(recognizer.config)
        turn.voice.fixed, turn.voice.draft, turn.voice.logits = 0, (), None
