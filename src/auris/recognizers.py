"""From pieces of audio to segments of text: one recognizer for every kind of model.

A recognizer takes pieces as it gets to them and gives each one's segment as soon as it is done,
which need not be in the order of the pieces.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from auris.attempts import Attempt, Outcome, Settling
from auris.audio.mel import log_mel
from auris.backends.base import Backend
from auris.belonging import check_vocabulary
from auris.checkpoints.calibration import Calibration
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.decoding.ctc import greedy
from auris.decoding.loop import Request, Step, decode
from auris.decoding.sampling import Probe
from auris.pieces import Options, Piece, Recognized, clock, until
from auris.segments import SegmentWriter
from auris.text.prompt import END_OF_TEXT, TURN_END, opening_ids, prompt_ids
from auris.text.reply import Reply, ends_before_text, parse_reply
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, FinishReason, Segment

__all__ = [
    "Options",
    "Piece",
    "QwenRecognizer",
    "Recognized",
    "Recognizer",
    "token_budget",
]

DRAFTED_LANGUAGE = "English"
"""Of drafts where the model chooses the language: CTC heads so far write no other."""

TOKENS_PER_SECOND = 16
"""Token budget for every second of audio, about three times the fastest speech."""

TOKENS_BESIDES = 64
"""Token budget beside that: for the language tag, and for the shortest pieces."""


COMMIT_ROWS = 2
"""Parts of a committed piece that are decoded at once: a cut makes two."""

NO_LETTER = "\ufffd"
"""What bytes that are no letter become."""


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
        self, pieces: Iterable[Piece | None], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """Recognize pieces, up to `rows` at once, until told to stop.

        Pieces that are still fed are None where none is at hand: those under way go on, and the
        iterator is asked again. After `cancelled` says true, pieces under way end as they are and
        no other begins.
        """

    def provisional(self, attempt: Attempt) -> Segment:
        """The segment of a first attempt alone, as of a piece that is still being heard."""

    def commit(self, attempt: Attempt) -> Recognized:
        """The segment of a piece that was decoded elsewhere, after all retries that it needs.

        It is the segment that `recognize` gives for a piece with this first attempt.

        Args:
            attempt: the piece's first attempt; its `silence_logprob` is found where it is missing.
        """


@dataclass
class _Task:
    """A decoding that is wanted: a piece's first attempt, or one that its settling asks for."""

    piece: Piece
    timings: dict[str, float]
    settling: Settling | None = None
    place: int = 0


@dataclass
class _Draft:
    """A decoding under way."""

    task: _Task
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    silence_logprob: float | None = None

    def take(self, step: Step) -> None:
        stage = "prefill" if step.prefill else "decode"
        timings = self.task.timings
        timings[stage] = timings.get(stage, 0.0) + step.seconds
        if step.probed is not None:
            self.silence_logprob = step.probed
        if step.token is not None:
            self.tokens.append(step.token)
            self.logprobs.append(step.logprob)

    def attempt(self, reason: FinishReason) -> Attempt:
        tokens, logprobs = tuple(self.tokens), tuple(self.logprobs)
        return Attempt(self.task.piece, tokens, logprobs, reason, self.silence_logprob)


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

    def check(self, options: Options) -> None:
        """See `Recognizer.check`: this kind of model honours them all.

        Raises:
            UsageError: the context is no text that can be encoded.
        """
        self.tokenizer.encode(options.context)

    def recognize(
        self, pieces: Iterable[Piece | None], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`."""
        return self._work(until(pieces, cancelled), deque(), rows, cancelled)

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`."""
        return self._writer.segment(attempt.piece, Outcome((attempt,)))

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`."""
        retries: deque[_Task] = deque()
        task = _Task(attempt.piece, {})
        if attempt.silence_logprob is None:
            attempt = replace(attempt, silence_logprob=self._silence_logprob(task))
        done = list(self._take(task, attempt, retries))
        done += self._work(iter(()), retries, COMMIT_ROWS, lambda: False)
        return done[0]

    def _work(
        self,
        pieces: Iterator[Piece | None],
        retries: deque[_Task],
        rows: int,
        cancelled: Callable[[], bool],
    ) -> Iterator[Recognized]:
        """Decode pieces, and before others what becomes of those that were decoded."""
        drafts: dict[int, _Draft] = {}
        while True:
            requests = self._requests(pieces, retries, drafts)
            for step in decode(self.backend, requests, self.stops, rows):
                draft = drafts[step.key]
                draft.take(step)
                if step.finish is not None:
                    del drafts[step.key]
                    yield from self._take(draft.task, draft.attempt(step.finish), retries)
                if cancelled():
                    break
            # Pieces may have ended before the last of them asked for a retry.
            if cancelled() or not retries:
                break
        yield from self._cancelled(drafts.values(), retries)

    def _requests(
        self, pieces: Iterator[Piece | None], retries: deque[_Task], drafts: dict[int, _Draft]
    ) -> Iterator[Request | None]:
        for key in itertools.count():
            if retries:
                task = retries.popleft()
            else:
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
                if piece is None:
                    yield None
                    continue
                task = _Task(piece, {})
            drafts[key] = _Draft(task)
            yield self._request(key, task)

    def _request(self, key: int, task: _Task) -> Request:
        timings, options, samples = task.timings, task.piece.options, task.piece.chunk.samples
        now = time.perf_counter()
        mel = log_mel(samples, self.config.frontend, self.config.encoder.mel_bins)
        now = clock(timings, "mel", now)
        (states,) = self.backend.encode([mel])
        now = clock(timings, "encode", now)
        ids = prompt_ids(self.tokenizer, len(states), options.language, options.context)
        prompt = self.backend.embed(ids, states)
        draft = self._draft(states, options)
        clock(timings, "prefill", now)
        return self.request(key, task.piece, prompt, draft)

    def request(
        self, key: int, piece: Piece, prompt: Tensor, draft: tuple[int, ...] = ()
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

    def _draft(self, states: Tensor, options: Options) -> tuple[int, ...]:
        """What the CTC head hears; its units are the decoder's tokens."""
        if self.drafting is None or options.sampling.temperature:
            return ()
        (logits,) = self.drafting.ctc_logits([states])
        # No head tells the language; a wrong guess of it costs nothing but the guess.
        opening = () if options.language else opening_ids(self.tokenizer, DRAFTED_LANGUAGE)
        return (*opening, *greedy(logits, self.config.decoder.vocab).ids)

    def _probe(self, options: Options) -> Probe:
        """Where the model says that there is no speech: it names the language "None", or ends a
        text at once whose language it was given."""
        return self._none if options.language is None else Probe(0, tuple(sorted(self.stops)))

    def _silence_logprob(self, task: _Task) -> float | None:
        """What the probe of an attempt would have found that was decoded without one."""
        request = self._request(0, task)
        steps = decode(self.backend, [request], self.stops)
        return next((step.probed for step in steps if step.probed is not None), None)

    def _take(self, task: _Task, attempt: Attempt, retries: deque[_Task]) -> Iterator[Recognized]:
        """An attempt came: its piece is done, or wants others."""
        settling = task.settling
        if settling is None:
            settling = Settling(attempt, self._text)
        elif not settling.take(task.place, attempt):
            return
        if settling.outcome is not None:
            yield self._finish(settling, settling.outcome, task.timings)
        for place, piece in enumerate(settling.wanted):
            retries.append(_Task(piece, task.timings, settling, place))

    def _cancelled(
        self, drafts: Iterable[_Draft], retries: Iterable[_Task]
    ) -> Iterator[Recognized]:
        """Pieces that were under way, as they are."""
        began: dict[int, tuple[Settling, dict[str, float]]] = {}
        for draft in drafts:
            settling = draft.task.settling or Settling(draft.attempt("cancelled"), self._text)
            began[id(settling)] = (settling, draft.task.timings)
        for task in retries:
            assert task.settling is not None
            began[id(task.settling)] = (task.settling, task.timings)
        for settling, timings in began.values():
            yield self._finish(settling, settling.cancel(), timings)

    def _finish(
        self, settling: Settling, outcome: Outcome, timings: dict[str, float]
    ) -> Recognized:
        piece = settling.first.piece
        return Recognized(piece.key, self._writer.segment(piece, outcome), timings)

    def _text(self, attempt: Attempt) -> str:
        return self._reply(attempt).text

    def _reply(self, attempt: Attempt) -> Reply:
        said = self.tokenizer.decode(attempt.said(self.tokenizer))
        language = attempt.piece.options.language
        if (
            attempt.reason in ("length", "cancelled")
            and language is None
            and ends_before_text(said)
        ):
            return Reply(None, "")
        reply = parse_reply(said, language)
        # The first unit of a loop may end in half a letter.
        cut = attempt.reason == "loop"
        return replace(reply, text=reply.text.rstrip(NO_LETTER)) if cut else reply


def _none_probe(tokenizer: Tokenizer) -> Probe:
    """The first token in which a reply without speech differs from one in some language."""
    none, some = (tokenizer.encode(f"language {name}") for name in ("None", "English"))
    place = next(n for n, (one, other) in enumerate(zip(none, some, strict=False)) if one != other)
    return Probe(place, (none[place],))
