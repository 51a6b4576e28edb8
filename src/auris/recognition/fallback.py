"""From a piece's first attempt to what counts: which attempts are given up, and what is tried next.

`plan_fallback` is the one place that decides, for live streams and files alike, when a chunk is
over. It knows nothing of batches: it asks for pieces to be decoded and is given their
attempts, so many pieces can be settled at once.

- *Context leaked.* Where the text repeats a long run of the context (`auris.text.leak`), the piece
  is decoded without it. Words that are there again were said, and the first attempt stays.
- *Loops, and texts that ran through a budget* which nobody chose: the piece is cut in two at a
  quiet place and both parts are decoded, up to `DEEPEST` times, down to parts of two seconds.
- A part that loops all the same keeps one of the repeats in its text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

from auris.audio.segmentation import halves
from auris.decoding.repetition import cut_loop
from auris.errors import CheckpointError
from auris.recognition.requests import ChunkRequest
from auris.text.leak import common_run, is_said
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, FinishReason, Retry, RetryCause

__all__ = [
    "DEEPEST",
    "DecodeResult",
    "FallbackPolicy",
    "FallbackResult",
    "check_scores",
    "plan_fallback",
]

DEEPEST = 3
"""How often a piece is cut in two: one of 30 s ends as parts of about four."""


@dataclass(frozen=True)
class DecodeResult:
    """What one decoding of a piece gave.

    Attributes:
        piece: what was decoded, and how.
        tokens: without the stop token.
        logprobs: natural-log probability of each.
        reason: why the decoding ended.
        silence_logprob: natural-log probability that the model says that there is no speech; None
            where it was not asked. Of a CTC model see `auris.decoding.ctc.blank_logprob`.
    """

    piece: ChunkRequest
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: FinishReason
    silence_logprob: float | None = None

    def said(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The tokens that make the text: of a loop, its first unit and the word it ends in."""
        loop = cut_loop(self.tokens) if self.reason in ("loop", "cancelled") else None
        if loop is None:
            return self.tokens
        first, end, _ = loop
        spelled = [tokenizer.piece(token) for token in self.tokens[end - 1 : 2 * end - first]]
        for place, (before, after) in enumerate(pairwise(spelled)):
            if before[-1:].isspace() or after[:1].isspace():
                return self.tokens[: end + place]
        return self.tokens[:end]

    def given_up(self, cause: RetryCause) -> Retry:
        """The account of an attempt that does not count."""
        chunk = self.piece.chunk
        end = (chunk.start + len(chunk.samples)) / SAMPLE_RATE
        return Retry(chunk.start / SAMPLE_RATE, end, cause, self.tokens)


@dataclass(frozen=True)
class FallbackResult:
    """The attempts that count, in the order of time, and those that were given up."""

    attempts: tuple[DecodeResult, ...]
    retries: tuple[Retry, ...] = ()


FallbackPlan: TypeAlias = Generator[list[ChunkRequest], list[DecodeResult], FallbackResult]
"""Asks for pieces to be decoded, is sent their attempts in the same order, returns the outcome."""


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


def plan_fallback(
    first: DecodeResult, text_of: Callable[[DecodeResult], str], depth: int = 0
) -> FallbackPlan:
    """Decide what becomes of a piece.

    Args:
        first: the first attempt. Whether whoever decoded it looked for loops does not matter.
        text_of: the text of an attempt.
        depth: how often the recording's piece was cut already.

    Raises:
        CheckpointError: scores are NaN.
    """
    attempt = _stopped_at_loop(first)
    retries: tuple[Retry, ...] = ()
    if attempt.reason == "cancelled":
        return FallbackResult((attempt,))
    piece = attempt.piece
    context = piece.options.context
    run = common_run(text_of(attempt), context) if context else None
    if run is not None:
        (again,) = yield [replace(piece, options=replace(piece.options, context=""))]
        if not is_said(run, text_of(again)):
            retries, attempt = (attempt.given_up("context"),), _stopped_at_loop(again)
    cause = _cause(attempt)
    parts = None if cause is None or depth == DEEPEST else halves(attempt.piece.chunk)
    if cause is None or parts is None:
        return FallbackResult((attempt,), retries)
    found = FallbackResult((), (*retries, attempt.given_up(cause)))
    for part in (yield [replace(attempt.piece, chunk=chunk) for chunk in parts]):
        settled = yield from plan_fallback(part, text_of, depth + 1)
        found = FallbackResult(found.attempts + settled.attempts, found.retries + settled.retries)
    return found


def _stopped_at_loop(attempt: DecodeResult) -> DecodeResult:
    """An attempt as the decode loop ends it, whoever decoded it."""
    check_scores(attempt.logprobs)
    loop = cut_loop(attempt.tokens)
    if loop is None or attempt.reason == "cancelled":
        return attempt
    seen = loop[2]
    return replace(
        attempt, tokens=attempt.tokens[:seen], logprobs=attempt.logprobs[:seen], reason="loop"
    )


def _cause(attempt: DecodeResult) -> RetryCause | None:
    """Why an attempt does not count; a budget that the caller chose is a wish."""
    if attempt.reason == "loop":
        return "loop"
    chosen = attempt.piece.options.max_new_tokens is not None
    return "length" if attempt.reason == "length" and not chosen else None


@dataclass
class FallbackPolicy:
    """A piece whose plan is under way: what it waits for, and what came already.

    Args:
        first: its first attempt.
        text_of: see `plan_fallback`.
    """

    first: DecodeResult
    text_of: Callable[[DecodeResult], str]
    wanted: list[ChunkRequest] = field(default_factory=list)
    outcome: FallbackResult | None = None

    def __post_init__(self) -> None:
        self._plan = plan_fallback(self.first, self.text_of)
        self._came: dict[int, DecodeResult] = {}
        self._send(None)

    def take(self, place: int, attempt: DecodeResult) -> bool:
        """The attempt at `wanted[place]`; says whether it was the last one and `wanted` is new."""
        self._came[place] = attempt
        if len(self._came) < len(self.wanted):
            return False
        self._send([self._came.pop(place) for place in range(len(self.wanted))])
        return True

    def cancel(self) -> FallbackResult:
        """What counts when nothing more can be decoded: the first attempt."""
        self._plan.close()
        return FallbackResult((replace(_stopped_at_loop(self.first), reason="cancelled"),))

    def _send(self, attempts: list[DecodeResult] | None) -> None:
        try:
            self.wanted = next(self._plan) if attempts is None else self._plan.send(attempts)
        except StopIteration as end:
            self.wanted, self.outcome = [], end.value
