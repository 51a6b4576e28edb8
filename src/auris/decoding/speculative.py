"""Texts continued from a draft: what somebody guesses is verified in one pass.

A draft may come from anywhere: what was said when a little less had been heard, another model, a
table. Every token is chosen exactly as `decode` chooses it, from the same scores; the draft only
allows many of them to be computed at once. It is accepted up to the first difference, and from
there on the one loop's passes go on.

Source: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding"
(2023), for the idea of verifying a draft in one pass; here a draft is text, not a distribution.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from auris.backends.base import Backend, Cache
from auris.decoding.loop import Request, Row, Step, advance
from auris.decoding.sampling import Choice, choose

__all__ = ["Drafted", "continued"]


@dataclass(frozen=True)
class Drafted:
    """A request whose row in the cache may already hold the beginning of its prompt.

    Attributes:
        request: `prompt` is what the row does not hold yet, at least one position.
        row: its row in the cache, which is in use.
        draft: ids that may follow; none is allowed.
    """

    request: Request
    row: int
    draft: Sequence[int] = ()


def continued(
    backend: Backend, cache: Cache, drafted: Sequence[Drafted], stops: Collection[int]
) -> Iterator[Step]:
    """Continue requests, all of them at once, each in its own row, which stays in use.

    Args:
        backend: runs the model.
        cache: holds the rows; afterwards a row holds its prompt and its tokens, but maybe the last.
        drafted: the requests, in distinct rows.
        stops: ids that end a text.

    Yields:
        the same steps as `decode`, each request's in order.
    """
    if not drafted:
        return
    under_way: list[tuple[Row, int]] = []
    for item, (row, steps) in zip(drafted, _verify(backend, cache, drafted, stops), strict=True):
        if steps[-1].finish is None:
            under_way.append((row, item.row))
        yield from steps
    while under_way:
        rows, places = [row for row, _ in under_way], [place for _, place in under_way]
        taken = advance(backend, cache, rows, stops, places)
        under_way = [
            both for both, steps in zip(under_way, taken, strict=True) if steps[-1].finish is None
        ]
        yield from chain.from_iterable(taken)


def _verify(
    backend: Backend, cache: Cache, drafted: Sequence[Drafted], stops: Collection[int]
) -> list[tuple[Row, list[Step]]]:
    """Every request after one pass over all prompts and drafts."""
    began = time.perf_counter()
    lengths = [cache.lengths[item.row] + len(item.request.prompt) for item in drafted]
    tail = 1 + max(len(item.draft) for item in drafted)
    inputs = [_whole(backend, item) for item in drafted]
    logits = backend.extend(cache, inputs, [item.row for item in drafted], tail)
    verified = []
    for item, length, scores in zip(drafted, lengths, logits, strict=True):
        row = Row(item.request, item.request.sampling.generator())
        steps = list(_accepted(row, item.draft, scores[-1 - len(item.draft) :], stops))
        # What was rejected is forgotten; the last accepted choice is not in the row yet.
        backend.truncate(cache, item.row, length + len(steps) - 1)
        verified.append((row, steps))
    share = (time.perf_counter() - began) / len(drafted)
    return [(row, [_timed(steps[0], share), *steps[1:]]) for row, steps in verified]


def _whole(backend: Backend, item: Drafted) -> Sequence[int] | Tensor:
    """Prompt and draft, as one input."""
    prompt = item.request.prompt
    if not isinstance(prompt, Tensor):
        return [*prompt, *item.draft]
    return torch.cat((prompt, backend.embed(item.draft, None))) if item.draft else prompt


def _accepted(
    row: Row, draft: Sequence[int], scores: Tensor, stops: Collection[int]
) -> Iterator[Step]:
    """Choices from scores [len(draft) + 1, vocab], up to the first that the draft does not make."""
    for place, choice in enumerate(_choices(row, scores)):
        step = row.take(scores[place], choice, stops, 0.0, prefill=True)
        yield step
        if step.finish is not None or place == len(draft) or step.token != draft[place]:
            return


def _choices(row: Row, scores: Tensor) -> Iterator[Choice]:
    """One choice after the other; draws are not made before they are asked for, since one behind
    the accepted text would be missing later."""
    if row.generator is None:
        yield from choose(scores, [0.0] * len(scores), [None] * len(scores))
        return
    for logits in scores:
        yield from choose(logits[None], [row.request.sampling.temperature], [row.generator])


def _timed(step: Step, seconds: float) -> Step:
    """The step with the time of the pass, which gave all of a request's first steps."""
    return replace(step, seconds=seconds)
