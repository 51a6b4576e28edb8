"""The one autoregressive loop, for one request and for many, offline and live.

`DecodeLoop` holds the requests that are decoded together. `decode` runs it over an iterator of
requests. `advance` is one pass over given rows of a cache; streams call it with rows of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from auris.backends.base import Backend, Cache, Choice, best_of
from auris.decoding.constrained import choose_prefix, given_choice, score_prefixes
from auris.decoding.drafts import Draft
from auris.decoding.repetition import Repetition
from auris.decoding.sampling import Probe, Sampling, choose, ids_logprob
from auris.types import FinishReason

FIRST_ROOM = 1024
"""Cache positions for a text at first; the cache grows for longer texts."""


def never() -> bool:
    """The default of `cancelled`: always False."""
    return False


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Attributes:
        key: names the request in its steps.
        prompt: token ids, or embeddings [L, hidden].
        max_new_tokens: most tokens to add, at least 1; the stop token does not count.
        sampling: how tokens are chosen.
        prefixes: forced prefixes, token ids each; None does not force any. If the model begins with
            one of them or of `allowed_prefixes` by itself, that one is taken, else the most
            likely of `prefixes`.
        allowed_prefixes: see `prefixes`.
        share: the part of a batch that the request takes. The shares of one batch add up to at most
            1, unless there is only one request.
        probe: a probability to compute during decoding.
        draft: a guessed text, which saves passes and never changes the text; ignored if tokens are
            sampled.
        cancelled: called before every pass; once it returns True, the request ends.
    """

    key: int
    prompt: Sequence[int] | Tensor
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    prefixes: tuple[tuple[int, ...], ...] | None = None
    allowed_prefixes: tuple[tuple[int, ...], ...] = ()
    share: float = 0.0
    probe: Probe | None = None
    cancelled: Callable[[], bool] = never
    draft: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """One token of one request, or its end. The last step of a loop has a token.

    Attributes:
        key: of the request.
        token: the token, or None if the text ended without another token.
        logprob, margin: of the chosen token, see `Choice`; of the stop token at a stop; 0 if the
            request was cancelled.
        finish: why the request ended, or None while it goes on.
        seconds: this request's share of the pass that gave the token.
        prefill: whether that pass read the prompt.
        probe_logprob: the natural-log probability of the request's probe, at its position.
    """

    key: int
    token: int | None
    logprob: float
    margin: float
    finish: FinishReason | None
    seconds: float
    prefill: bool
    probe_logprob: float | None = None


@dataclass
class DecodeRow:
    """A request that is being decoded."""

    request: Request
    generator: torch.Generator | None
    tokens: int = 0
    last: int = -1
    repetition: Repetition = field(default_factory=Repetition)
    draft: Draft = field(init=False)

    def __post_init__(self) -> None:
        # Sampling verifies no drafts: samples behind the accepted text would use up random numbers.
        self.draft = Draft(() if self.generator else self.request.draft)

    def needs_scores(self) -> bool:
        """Whether the next token needs all scores, not only the best one."""
        probe = self.request.probe
        probes = probe is not None and probe.position == self.tokens
        return probes or self.generator is not None

    def record(
        self,
        logits: Tensor | None,
        choice: Choice,
        stops: Collection[int],
        seconds: float,
        prefill: bool,
    ) -> Step:
        """Record a choice; returns its step. Logits are float32 [vocab], or None if only the best
        token was computed."""
        probe, probe_logprob = self.request.probe, None
        if probe is not None and probe.position == self.tokens and logits is not None:
            probe_logprob = ids_logprob(logits, probe.ids)
        token, finish = self._next_token(choice.token, stops)
        key = self.request.key
        return Step(
            key, token, choice.logprob, choice.margin, finish, seconds, prefill, probe_logprob
        )

    def _next_token(
        self, token: int, stops: Collection[int]
    ) -> tuple[int | None, FinishReason | None]:
        if token in stops:
            return None, "stop"
        if self.tokens == self.request.max_new_tokens:
            # The budget is checked one pass after it is used up: if the model stops here, the text
            # is complete and its reason is "stop".
            return None, "length"
        self.tokens += 1
        self.last = token
        self.draft.take(token)
        return token, "loop" if self.repetition.add(token) else None


def _prefill(
    backend: Backend, cache: Cache, request: Request, stops: Collection[int]
) -> tuple[DecodeRow, list[Step]]:
    began = time.perf_counter()
    rows = backend.admit(cache)
    row = DecodeRow(request, request.sampling.generator())
    scores = backend.extend(cache, [request.prompt], rows)[0, -1:]
    steps: list[Step] = []
    if request.prefixes is not None:
        ids = choose_request_prefix(backend, cache, rows[0], scores[0], request)
        (behind,) = backend.extend(cache, [ids], rows, "all")
        steps += prefix_steps(row, ids, [scores[0], *behind], stops)
        if steps[-1].finish is not None:
            return row, steps
        scores = behind[-1:]
    (choice,) = choose(scores, [request.sampling.temperature], [row.generator])
    return row, [*steps, row.record(scores[0], choice, stops, time.perf_counter() - began, True)]


def choose_request_prefix(
    backend: Backend, cache: Cache, row: int, logits: Tensor, request: Request
) -> tuple[int, ...]:
    """The prefix with which the text of a request with forced prefixes begins.

    Args:
        row: its row in the cache, which ends with the prompt before and after.
        logits: float32 [vocab] behind the prompt.
    """
    candidates, allowed = (
        score_prefixes(backend, cache, row, logits, prefixes)
        for prefixes in (request.prefixes or (), request.allowed_prefixes)
    )
    return choose_prefix(candidates, allowed).ids


def prefix_steps(
    row: DecodeRow, ids: Sequence[int], before: Sequence[Tensor], stops: Collection[int]
) -> list[Step]:
    """Steps of a forced prefix; the last one has a finish reason if the text ends inside it.

    Args:
        before: float32 [vocab] in front of each of its `ids`.
    """
    steps = []
    for token, logits in zip(ids, before, strict=False):
        steps.append(row.record(logits, given_choice(logits, token), stops, 0.0, True))
        if steps[-1].finish is not None:
            break
    return steps


def advance(
    backend: Backend,
    cache: Cache,
    rows: Sequence[DecodeRow],
    stops: Collection[int],
    cache_rows: Sequence[int] | None = None,
) -> list[list[Step]]:
    """One pass over some requests: a step of each, and more steps if a draft was right.

    Args:
        cache_rows: their rows in the cache; by default all rows in order.
    """
    began = time.perf_counter()
    cache_rows = range(len(rows)) if cache_rows is None else cache_rows
    drafts = [row.draft.ahead() for row in rows]
    # Separate, so that the way in which a row is scored does not depend on the batch.
    full = [row.needs_scores() or bool(draft) for row, draft in zip(rows, drafts, strict=True)]
    plain = [index for index, needed in enumerate(full) if not needed]
    scored = [index for index, needed in enumerate(full) if needed]
    steps_of_rows: list[list[Step]] = [[] for _ in rows]
    if plain:
        inputs = [[rows[index].last] for index in plain]
        choices = backend.best(cache, inputs, [cache_rows[index] for index in plain])
        share = (time.perf_counter() - began) / len(plain)
        for index, choice in zip(plain, choices, strict=True):
            steps_of_rows[index] = [rows[index].record(None, choice, stops, share, False)]
    if scored:
        group = [(rows[index], drafts[index], cache_rows[index]) for index in scored]
        for index, steps in zip(scored, _scored(backend, cache, group, stops), strict=True):
            steps_of_rows[index] = steps
    return steps_of_rows


def _scored(
    backend: Backend,
    cache: Cache,
    group: Sequence[tuple[DecodeRow, Sequence[int], int]],
    stops: Collection[int],
) -> Iterator[list[Step]]:
    """Steps of rows that need all scores, each with its draft and its row in the cache."""
    began = time.perf_counter()
    rows, drafts, cache_rows = zip(*group, strict=True)
    starts = [cache.lengths[row] for row in cache_rows]
    inputs = [[row.last, *draft] for row, draft in zip(rows, drafts, strict=True)]
    logits = backend.extend(cache, inputs, cache_rows, "all" if any(drafts) else "last")
    choices = choose(
        logits[:, 0],
        [row.request.sampling.temperature for row in rows],
        [row.generator for row in rows],
    )
    share = (time.perf_counter() - began) / len(rows)
    for index, (row, choice, draft) in enumerate(zip(rows, choices, drafts, strict=True)):
        chosen = chain([choice], _best(logits[index, 1 : 1 + len(draft)]))
        steps = list(accepted(row, draft, logits[index], chosen, stops, prefill=False))
        steps[0] = replace(steps[0], seconds=share)
        if draft:
            # Remove rejected guesses from the cache. It does not have the last choice yet.
            backend.truncate(cache, cache_rows[index], starts[index] + len(steps))
        yield steps


def _best(scores: Tensor) -> Iterator[Choice]:
    """The best token of each row of scores [n, vocab], computed with the first one."""
    yield from best_of(scores)


def accepted(
    row: DecodeRow,
    draft: Sequence[int],
    scores: Tensor,
    choices: Iterable[Choice],
    stops: Collection[int],
    *,
    prefill: bool,
) -> Iterator[Step]:
    """Steps of one pass over a draft, up to the first choice that differs from the draft.

    Args:
        draft: ids that were scored; there may be none.
        scores: float32 [> len(draft), vocab], in front of the draft and behind each of its ids.
        choices: one for each of the scores; read only while all before it are accepted.
        prefill: whether the pass read the prompt.
    """
    for index, choice in enumerate(choices):
        step = row.record(scores[index], choice, stops, 0.0, prefill)
        yield step
        if step.finish is not None or index == len(draft) or step.token != draft[index]:
            return


class DecodeLoop:
    """Requests that are decoded together, one dense batch of cache rows.

    The caller decides what happens between two passes: it admits requests while `fits` allows it
    and takes a step. A finished row leaves at once, and the last row takes its place in the cache.

    Args:
        stops: ids that end a text.
        rows: most requests in one batch, at least 1.
    """

    def __init__(self, backend: Backend, stops: Collection[int], rows: int = 1) -> None:
        if rows < 1:
            raise ValueError(f"decoding needs at least one row, not {rows}")
        self._backend = backend
        self._stops = stops
        self._rows = rows
        self._cache: Cache | None = None
        self._active: list[DecodeRow] = []

    @property
    def active(self) -> int:
        """Requests that are not finished."""
        return len(self._active)

    @property
    def free_rows(self) -> int:
        """Rows without a request."""
        return self._rows - len(self._active)

    def fits(self, request: Request) -> bool:
        """Whether a row is free and the batch has room for the request's share."""
        used = request.share + sum(row.request.share for row in self._active)
        return not self._active or (self.free_rows > 0 and used <= 1.0 + 1e-9)

    def admit(self, request: Request) -> list[Step]:
        """Run a request's prompt through the model; returns the steps that this gives."""
        if self._cache is None:
            room = min(request.max_new_tokens, FIRST_ROOM)
            self._cache = self._backend.new_cache(self._rows, len(request.prompt) + room)
        row, steps = _prefill(self._backend, self._cache, request, self._stops)
        if steps[-1].finish is None:
            self._active.append(row)
        else:
            self._backend.drop(self._cache, len(self._active))
        return steps

    def step(self) -> list[Step]:
        """One pass over all active requests; those that were cancelled end before it."""
        if self._cache is None:
            return []
        steps = self._end_cancelled(self._cache)
        if not self._active:
            return steps
        steps_of_rows = advance(self._backend, self._cache, self._active, self._stops)
        # From the last row to the first: a dropped row is replaced by one that was checked already.
        for index in reversed(range(len(steps_of_rows))):
            if steps_of_rows[index][-1].finish is not None:
                self._drop(self._cache, index)
        return [*steps, *chain.from_iterable(steps_of_rows)]

    def _end_cancelled(self, cache: Cache) -> list[Step]:
        steps = []
        for index in reversed(range(len(self._active))):
            request = self._active[index].request
            if request.cancelled():
                steps.append(Step(request.key, None, 0.0, 0.0, "cancelled", 0.0, prefill=False))
                self._drop(cache, index)
        return steps

    def _drop(self, cache: Cache, index: int) -> None:
        self._backend.drop(cache, index)
        last = self._active.pop()
        if index < len(self._active):
            self._active[index] = last


def decode(
    backend: Backend, requests: Iterable[Request], stops: Collection[int], rows: int = 1
) -> Iterator[Step]:
    """Continue requests, up to `rows` of them at once, taken one by one as rows become free.

    Yields:
        the steps of all requests, each request's in order; the last one of a request has a
        finish reason.
    """
    loop = DecodeLoop(backend, stops, rows)
    waiting = iter(requests)
    following: Request | None = None
    exhausted = False
    while True:
        while not exhausted and loop.free_rows:
            if following is None:
                following = next(waiting, None)
            if following is None:
                exhausted = True
            elif not loop.fits(following):
                break
            else:
                steps = loop.admit(following)
                following = None
                yield from steps
        if not loop.active and exhausted:
            return
        yield from loop.step()
