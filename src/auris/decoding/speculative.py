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

from auris.backends.base import Backend, Cache, best_of
from auris.decoding.loop import DecodeRow, Request, Step, accepted, advance, opened, opening
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
    under_way: list[tuple[DecodeRow, int]] = []
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


@dataclass(frozen=True)
class _VerifyPass:
    """What goes through the model for a request.

    Attributes:
        inputs: ids, or embeddings [T, hidden].
        begun: what the text begins with, the first of the inputs; none where the model is free.
        draft: ids that may follow, the last of the inputs.
        before: float32 [vocab] in front of what the text begins with.
    """

    inputs: Sequence[int] | Tensor
    begun: tuple[int, ...] = ()
    draft: Sequence[int] = ()
    before: Tensor | None = None

    def steps(self, row: DecodeRow, scores: Tensor, stops: Collection[int]) -> list[Step]:
        """Steps of the pass; scores are float32 [n, vocab], behind its last n inputs."""
        steps: list[Step] = []
        if self.before is not None:
            inner = scores[len(scores) - len(self.inputs) :]
            steps = opened(row, self.begun, [self.before, *inner], stops)
            if steps[-1].finish is not None:
                return steps
        ahead = scores[-1 - len(self.draft) :]
        choices = _choices(row, ahead)
        return [*steps, *accepted(row, self.draft, ahead, choices, stops, prefill=True)]


def _verify(
    backend: Backend, cache: Cache, drafted: Sequence[Drafted], stops: Collection[int]
) -> list[tuple[DecodeRow, list[Step]]]:
    """Every request after one pass over all prompts and drafts, and one more over the prompts of
    those with openings."""
    began = time.perf_counter()
    lengths = [cache.lengths[item.row] + len(item.request.prompt) for item in drafted]
    passes = _passes(backend, cache, drafted)
    tail = max(len(one.begun) + len(one.draft) for one in passes) + 1
    inputs = [one.inputs for one in passes]
    logits = backend.extend(cache, inputs, [item.row for item in drafted], tail)
    verified = []
    for item, one, length, scores in zip(drafted, passes, lengths, logits, strict=True):
        row = DecodeRow(item.request, item.request.sampling.generator())
        steps = one.steps(row, scores, stops)
        # What was rejected is forgotten; the last accepted choice is not in the row yet.
        backend.truncate(cache, item.row, length + len(steps) - 1)
        verified.append((row, steps))
    share = (time.perf_counter() - began) / len(drafted)
    return [(row, [_timed(steps[0], share), *steps[1:]]) for row, steps in verified]


def _passes(backend: Backend, cache: Cache, drafted: Sequence[Drafted]) -> list[_VerifyPass]:
    """What is left to compute once the beginnings of texts that may not begin freely are chosen."""
    held = [item for item in drafted if item.request.openings is not None]
    behind: dict[int, Tensor] = {}
    if held:
        rows = [item.row for item in held]
        scored = backend.extend(cache, [item.request.prompt for item in held], rows)
        behind = {row: logits[-1] for row, logits in zip(rows, scored, strict=True)}
    passes = []
    for item in drafted:
        before = behind.get(item.row)
        if before is None:
            passes.append(_VerifyPass(_whole(backend, item), draft=item.draft))
            continue
        begun = opening(backend, cache, item.row, before, item.request)
        fits = tuple(item.draft[: len(begun)]) == begun
        draft = tuple(item.draft[len(begun) :]) if fits else ()
        passes.append(_VerifyPass([*begun, *draft], begun, draft, before))
    return passes


def _whole(backend: Backend, item: Drafted) -> Sequence[int] | Tensor:
    """Prompt and draft, as one input."""
    prompt = item.request.prompt
    if not isinstance(prompt, Tensor):
        return [*prompt, *item.draft]
    return torch.cat((prompt, backend.embed(item.draft, None))) if item.draft else prompt


def _choices(row: DecodeRow, scores: Tensor) -> Iterator[Choice]:
    """One choice after the other; draws are not made before they are asked for, since one behind
    the accepted text would be missing later."""
    if row.generator is None:
        yield from best_of(scores)
        return
    for logits in scores:
        yield from choose(logits[None], [row.request.sampling.temperature], [row.generator])


def _timed(step: Step, seconds: float) -> Step:
    """The step with the time of the pass, which gave all of a request's first steps."""
    return replace(step, seconds=seconds)
