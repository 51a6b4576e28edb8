"""Speculative decoding: a draft is verified in one pass.

A draft may come from anywhere, for example from the text of the step before in a live stream. Every
token is chosen exactly as `decode` chooses it, from the same scores; the draft only allows many
tokens to be scored at once. It is accepted up to the first difference. The rest of the text is
decoded by passes of the decode loop, for which the rest of the draft is a draft again, see
`auris.decoding.drafts`.

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
from auris.decoding.loop import (
    DecodeRow,
    accepted,
    advance,
    choose_request_prefix,
    prefix_steps,
)
from auris.decoding.requests import Request, Step
from auris.decoding.static_rows import StaticRows, takes_static_step


@dataclass(frozen=True)
class DraftedRequest:
    """A request whose cache row may already have the beginning of its prompt.

    Attributes:
        request: its `prompt` is the part that the row does not have, at least one position.
        row: its row in the cache, which is in use.
        draft: guessed ids of the text; may be empty.
    """

    request: Request
    row: int
    draft: Sequence[int] = ()


def decode_drafts(
    backend: Backend,
    cache: Cache,
    drafted: Sequence[DraftedRequest],
    stops: Collection[int],
    static: StaticRows | None = None,
) -> Iterator[Step]:
    """Continue requests, all at once, each in its own row, which stays in use.

    Afterwards a row has its prompt and its tokens, maybe without the last one.

    Args:
        static: continues the requests that `takes_static_step` names, if the backend has a static
            step for the cache. What is left of their drafts is not used.

    Yields:
        the same steps as `decode`, each request's in order.
    """
    if not drafted:
        return
    active: list[tuple[DecodeRow, int]] = []
    begun: list[tuple[DecodeRow, int]] = []
    for item, (row, steps) in zip(drafted, _verify(backend, cache, drafted, stops), strict=True):
        if steps[-1].finish is None:
            on_device = static is not None and takes_static_step(item.request)
            (begun if on_device else active).append((row, item.row))
        yield from steps
    if static is not None:
        yield from _static_steps(static, begun)
    while active:
        rows, cache_rows = [row for row, _ in active], [number for _, number in active]
        advanced = advance(backend, cache, rows, stops, cache_rows)
        active = [
            pair for pair, steps in zip(active, advanced, strict=True) if steps[-1].finish is None
        ]
        yield from chain.from_iterable(advanced)


def _static_steps(static: StaticRows, begun: Sequence[tuple[DecodeRow, int]]) -> Iterator[Step]:
    """The rest of the texts of rows, with their rows in the cache."""
    static.begin(begun)
    try:
        while len(static):
            yield from (step for _, step in static.step())
    finally:
        for row, _ in begun:
            if row in static:
                static.end(row)


@dataclass(frozen=True)
class _VerifyPass:
    """The inputs of the pass that verifies a draft.

    Attributes:
        inputs: ids, or embeddings [T, hidden].
        prefix: the forced prefix, at the beginning of the inputs; may be empty.
        draft: the guessed ids, at the end of the inputs.
        before: float32 [vocab] in front of the forced prefix; None without one.
    """

    inputs: Sequence[int] | Tensor
    prefix: tuple[int, ...] = ()
    draft: Sequence[int] = ()
    before: Tensor | None = None

    def steps(self, row: DecodeRow, scores: Tensor, stops: Collection[int]) -> list[Step]:
        """Steps of the pass; scores are float32 [n, vocab], behind its last n inputs."""
        steps: list[Step] = []
        if self.before is not None:
            inner = scores[len(scores) - len(self.inputs) :]
            steps = prefix_steps(row, self.prefix, [self.before, *inner], stops)
            if steps[-1].finish is not None:
                return steps
        ahead = scores[-1 - len(self.draft) :]
        choices = row.choices(ahead, stops)
        return [*steps, *accepted(row, self.draft, ahead, choices, stops, prefill=True)]


def _verify(
    backend: Backend, cache: Cache, drafted: Sequence[DraftedRequest], stops: Collection[int]
) -> list[tuple[DecodeRow, list[Step]]]:
    """The rows and their first steps, after one pass over all prompts and drafts. Requests with
    forced prefixes take one more pass over their prompts."""
    began = time.perf_counter()
    lengths = [cache.lengths[item.row] + len(item.request.prompt) for item in drafted]
    passes = _passes(backend, cache, drafted)
    tail = max(len(one.prefix) + len(one.draft) for one in passes) + 1
    inputs = [one.inputs for one in passes]
    logits = backend.extend(cache, inputs, [item.row for item in drafted], tail)
    verified = []
    for item, one, length, scores in zip(drafted, passes, lengths, logits, strict=True):
        request = replace(item.request, draft=tuple(item.draft))
        row = DecodeRow(request, request.sampling.generator())
        steps = one.steps(row, scores, stops)
        # Remove rejected guesses from the cache. It does not have the last accepted choice yet.
        backend.truncate(cache, item.row, length + len(steps) - 1)
        verified.append((row, steps))
    share = (time.perf_counter() - began) / len(drafted)
    return [(row, [replace(steps[0], seconds=share), *steps[1:]]) for row, steps in verified]


def _passes(backend: Backend, cache: Cache, drafted: Sequence[DraftedRequest]) -> list[_VerifyPass]:
    """The passes of all requests; forced prefixes are chosen first."""
    forced = [item for item in drafted if item.request.prefixes is not None]
    behind: dict[int, Tensor] = {}
    if forced:
        rows = [item.row for item in forced]
        scored = backend.extend(cache, [item.request.prompt for item in forced], rows)
        behind = {row: logits[-1] for row, logits in zip(rows, scored, strict=True)}
    passes = []
    for item in drafted:
        before = behind.get(item.row)
        if before is None:
            passes.append(_VerifyPass(_with_draft(backend, item), draft=item.draft))
            continue
        prefix = choose_request_prefix(backend, cache, item.row, before, item.request)
        fits = tuple(item.draft[: len(prefix)]) == prefix
        draft = tuple(item.draft[len(prefix) :]) if fits else ()
        passes.append(_VerifyPass([*prefix, *draft], prefix, draft, before))
    return passes


def _with_draft(backend: Backend, item: DraftedRequest) -> Sequence[int] | Tensor:
    """Prompt and draft as one input."""
    prompt = item.request.prompt
    if not isinstance(prompt, Tensor):
        return [*prompt, *item.draft]
    return torch.cat((prompt, backend.embed(item.draft, None))) if item.draft else prompt
