"""Fallback: when a chunk is decoded again, and which results count.

`plan_fallback` is the only place that decides this, for files and for live streams. It does not
decode: it yields requests and is sent their results, so the fallbacks of many chunks can share a
batch.

- *The context leaked.* If the text repeats a long run of the context (`auris.text.leak`), the chunk
  is decoded again without the context. If the second text has the same words, they were spoken, and
  the first result is used.
- *The text loops, or it used up the default token budget.* The chunk is cut in two at a quiet place
  and both halves are decoded. This happens up to `MAX_DEPTH` times, down to parts of two seconds.
  The text of a part that still loops has one of the repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from auris.audio.segmentation import halves
from auris.decoding.repetition import cut_loop
from auris.errors import CheckpointError
from auris.recognition.requests import ChunkRequest, DecodeResult
from auris.text.leak import common_run, is_spoken
from auris.types import Retry, RetryCause

MAX_DEPTH = 3
"""How often a chunk is cut in two: parts of a chunk of 30 s are then about four seconds long."""


@dataclass(frozen=True)
class FallbackResult:
    """The results that count, in the order of time, and records of those that were discarded."""

    results: tuple[DecodeResult, ...]
    retries: tuple[Retry, ...] = ()


FallbackPlan: TypeAlias = Generator[list[ChunkRequest], list[DecodeResult], FallbackResult]
"""Yields requests, is sent their results in the same order, and returns what counts."""


def check_scores(logprobs: Iterable[float]) -> None:
    """Raise CheckpointError if a log-probability is NaN."""
    if any(map(math.isnan, logprobs)):
        raise CheckpointError(
            "The scores of the model are NaN, since its weights are damaged or too large for this"
            " dtype",
            "",
            "choose --dtype float32, or fetch the checkpoint anew",
        )


def plan_fallback(
    first: DecodeResult, text_of: Callable[[DecodeResult], str], depth: int = 0
) -> FallbackPlan:
    """Decide whether a chunk is decoded again, and how.

    Args:
        first: the first result of the chunk. Loops are found in it even if its decoder did not
            look for them.
        text_of: the text of a result.
        depth: how often the chunk was cut already.
    """
    result = _stopped_at_loop(first)
    retries: tuple[Retry, ...] = ()
    if result.reason == "cancelled":
        return FallbackResult((result,))
    request = result.request
    context = request.options.context
    run = common_run(text_of(result), context) if context else None
    if run is not None:
        (again,) = yield [replace(request, options=replace(request.options, context=""))]
        if not is_spoken(run, text_of(again)):
            retries, result = (result.retry("context"),), _stopped_at_loop(again)
    cause = _retry_cause(result)
    parts = None if cause is None or depth == MAX_DEPTH else halves(result.request.chunk)
    if cause is None or parts is None:
        return FallbackResult((result,), retries)
    results: tuple[DecodeResult, ...] = ()
    retries = (*retries, result.retry(cause))
    requests = [replace(result.request, chunk=chunk, encoded=None) for chunk in parts]
    for part in (yield requests):
        inner = yield from plan_fallback(part, text_of, depth + 1)
        results, retries = results + inner.results, retries + inner.retries
    return FallbackResult(results, retries)


def _stopped_at_loop(result: DecodeResult) -> DecodeResult:
    """A result cut where the decode loop stops at a loop, also if its decoder went on."""
    check_scores(result.logprobs)
    loop = cut_loop(result.tokens)
    if loop is None or result.reason == "cancelled":
        return result
    seen = loop[2]
    return replace(
        result, tokens=result.tokens[:seen], logprobs=result.logprobs[:seen], reason="loop"
    )


def _retry_cause(result: DecodeResult) -> RetryCause | None:
    """Why a result is discarded, or None. A token budget that the caller chose may be used up."""
    if result.reason == "loop":
        return "loop"
    chosen = result.request.options.max_new_tokens is not None
    return "length" if result.reason == "length" and not chosen else None


@dataclass
class FallbackPolicy:
    """The fallback of one chunk while its requests are decoded.

    Attributes:
        first: the first result of the chunk.
        text_of: the text of a result.
        requests: have to be decoded before the plan can go on.
        result: the results that count, once no more requests are needed.
    """

    first: DecodeResult
    text_of: Callable[[DecodeResult], str]
    requests: list[ChunkRequest] = field(default_factory=list)
    result: FallbackResult | None = None

    def __post_init__(self) -> None:
        self._plan = plan_fallback(self.first, self.text_of)
        self._results: dict[int, DecodeResult] = {}
        self._advance(None)

    def add_result(self, index: int, result: DecodeResult) -> bool:
        """Add the result of `requests[index]`; returns whether it was the last that was missing.

        If it was, `requests` and `result` have new values.
        """
        self._results[index] = result
        if len(self._results) < len(self.requests):
            return False
        self._advance([self._results.pop(index) for index in range(len(self.requests))])
        return True

    def cancel(self) -> FallbackResult:
        """End the fallback; returns the first result, marked as cancelled."""
        self._plan.close()
        return FallbackResult((replace(_stopped_at_loop(self.first), reason="cancelled"),))

    def _advance(self, results: list[DecodeResult] | None) -> None:
        try:
            self.requests = next(self._plan) if results is None else self._plan.send(results)
        except StopIteration as end:
            self.requests, self.result = [], end.value
