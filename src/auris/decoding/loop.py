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

from auris.backends.base import Backend, Cache, best_of
from auris.decoding.constrained import choose_prefix, given_choice, score_prefixes
from auris.decoding.drafts import Draft
from auris.decoding.repetition import Repetition
from auris.decoding.sampling import Choice, Probe, Sampling, chance, choose
from auris.types import FinishReason

__all__ = [
    "DecodeRow",
    "Request",
    "Step",
    "accepted",
    "advance",
    "decode",
    "never",
    "opened",
    "opening",
]

FIRST_ROOM = 1024
"""Positions laid out for a text at first; the cache grows with the few that are longer."""


def never() -> bool:
    """What is not cancelled."""
    return False


@dataclass(frozen=True)
class Request:
    """Something to continue.

    Attributes:
        key: names the request in its steps.
        prompt: token ids, or embeddings [L, hidden].
        max_new_tokens: most tokens to add, at least 1; the stop token does not count.
        sampling: how tokens are chosen.
        openings: what the text may begin with, each a row of ids; None leaves it free. The model's
            own beginning is kept if it is one of them or of `kept_openings`, else it is the
            likeliest of `openings`.
        share: how much of a batch the request takes; those in one batch add up to at most 1, unless
            it is one alone.
        probe: what to ask the scores by the way.
        draft: a guess at the text, which saves passes and never changes it; not heeded where tokens
            are drawn.
        cancelled: asked before every pass; once it says true, the request ends as it is.
    """

    key: int
    prompt: Sequence[int] | Tensor
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    openings: tuple[tuple[int, ...], ...] | None = None
    kept_openings: tuple[tuple[int, ...], ...] = ()
    share: float = 0.0
    probe: Probe | None = None
    cancelled: Callable[[], bool] = never
    draft: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """One token of one request, or its end; a loop ends with the token that gives it away.

    Attributes:
        key: whose step this is.
        token: the token, or None when the text ended without one more.
        logprob, gap: of the chosen token, see `Choice`; of the stop token at a stop; 0 where the
            request was cancelled.
        finish: why the request ended, or None while it goes on.
        seconds: this request's share of the pass that gave the token.
        prefill: whether that pass read the prompt.
        probed: the natural-log probability that the request's probe asks for, at its place.
    """

    key: int
    token: int | None
    logprob: float
    gap: float
    finish: FinishReason | None
    seconds: float
    prefill: bool
    probed: float | None = None


@dataclass
class DecodeRow:
    """A request under way."""

    request: Request
    generator: torch.Generator | None
    tokens: int = 0
    last: int = -1
    repetition: Repetition = field(default_factory=Repetition)
    draft: Draft = field(init=False)

    def __post_init__(self) -> None:
        # A draw behind the accepted text would be missing later.
        self.draft = Draft(() if self.generator else self.request.draft)

    def asks(self) -> bool:
        """Whether more of the next scores is wanted than the best one."""
        probe = self.request.probe
        probes = probe is not None and probe.place == self.tokens
        return probes or self.generator is not None

    def take(
        self,
        logits: Tensor | None,
        choice: Choice,
        stops: Collection[int],
        seconds: float,
        prefill: bool,
    ) -> Step:
        """Record a choice and say what it means; logits are float32 [vocab], or None where no more
        was asked of them."""
        probe, probed = self.request.probe, None
        if probe is not None and probe.place == self.tokens and logits is not None:
            probed = chance(logits, probe.ids)
        token, finish = self._judge(choice.token, stops)
        key = self.request.key
        return Step(key, token, choice.logprob, choice.gap, finish, seconds, prefill, probed)

    def _judge(self, token: int, stops: Collection[int]) -> tuple[int | None, FinishReason | None]:
        if token in stops:
            return None, "stop"
        if self.tokens == self.request.max_new_tokens:
            # The budget is judged one pass later than it is spent: had the model stopped here,
            # nothing would be missing, and "length" would accuse it of a cut.
            return None, "length"
        self.tokens += 1
        self.last = token
        self.draft.take(token)
        return token, "loop" if self.repetition.take(token) else None


def _prefill(
    backend: Backend, cache: Cache, request: Request, stops: Collection[int]
) -> tuple[DecodeRow, list[Step]]:
    began = time.perf_counter()
    rows = backend.admit(cache)
    row = DecodeRow(request, request.sampling.generator())
    scores = backend.extend(cache, [request.prompt], rows)[0, -1:]
    steps: list[Step] = []
    if request.openings is not None:
        ids = opening(backend, cache, rows[0], scores[0], request)
        (behind,) = backend.extend(cache, [ids], rows, "all")
        steps += opened(row, ids, [scores[0], *behind], stops)
        if steps[-1].finish is not None:
            return row, steps
        scores = behind[-1:]
    (choice,) = choose(scores, [request.sampling.temperature], [row.generator])
    return row, [*steps, row.take(scores[0], choice, stops, time.perf_counter() - began, True)]


def opening(
    backend: Backend, cache: Cache, row: int, logits: Tensor, request: Request
) -> tuple[int, ...]:
    """What the text of a request with openings begins with.

    Args:
        row: its row in the cache, which ends with the prompt and is left so.
        logits: float32 [vocab] behind the prompt.
    """
    chosen, kept = (
        score_prefixes(backend, cache, row, logits, openings)
        for openings in (request.openings or (), request.kept_openings)
    )
    return choose_prefix(chosen, kept).ids


def opened(
    row: DecodeRow, ids: Sequence[int], before: Sequence[Tensor], stops: Collection[int]
) -> list[Step]:
    """Steps of the ids that a text begins with; the last one has a finish where it ends in them.

    Args:
        row: whose text it is.
        ids: at least one.
        before: float32 [vocab] in front of each.
        stops: ids that end a text.
    """
    steps = []
    for token, logits in zip(ids, before, strict=False):
        steps.append(row.take(logits, given_choice(logits, token), stops, 0.0, True))
        if steps[-1].finish is not None:
            break
    return steps


def advance(
    backend: Backend,
    cache: Cache,
    rows: Sequence[DecodeRow],
    stops: Collection[int],
    places: Sequence[int] | None = None,
) -> list[list[Step]]:
    """One pass over some requests: a step of each, and more where a draft was right.

    Args:
        places: their rows in the cache; by default they are all that it has, in its order.
    """
    began = time.perf_counter()
    places = range(len(rows)) if places is None else places
    drafts = [row.draft.ahead() for row in rows]
    # Apart, so that how a row is scored never depends on its neighbours.
    asking = [row.asks() or bool(draft) for row, draft in zip(rows, drafts, strict=True)]
    plain = [index for index, asks in enumerate(asking) if not asks]
    scored = [index for index, asks in enumerate(asking) if asks]
    taken: list[list[Step]] = [[] for _ in rows]
    if plain:
        inputs = [[rows[index].last] for index in plain]
        choices = backend.best(cache, inputs, [places[index] for index in plain])
        share = (time.perf_counter() - began) / len(plain)
        for index, choice in zip(plain, choices, strict=True):
            taken[index] = [rows[index].take(None, choice, stops, share, False)]
    if scored:
        group = [(rows[index], drafts[index], places[index]) for index in scored]
        for index, steps in zip(scored, _scored(backend, cache, group, stops), strict=True):
            taken[index] = steps
    return taken


def _scored(
    backend: Backend,
    cache: Cache,
    group: Sequence[tuple[DecodeRow, Sequence[int], int]],
    stops: Collection[int],
) -> Iterator[list[Step]]:
    """Steps of rows whose scores are wanted, each with its draft and its place in the cache."""
    began = time.perf_counter()
    rows, drafts, places = zip(*group, strict=True)
    starts = [cache.lengths[place] for place in places]
    inputs = [[row.last, *draft] for row, draft in zip(rows, drafts, strict=True)]
    logits = backend.extend(cache, inputs, places, "all" if any(drafts) else "last")
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
            # What was guessed wrong is forgotten; the last choice is not in the row yet.
            backend.truncate(cache, places[index], starts[index] + len(steps))
        yield steps


def _best(scores: Tensor) -> Iterator[Choice]:
    """The best token of each of scores [n, vocab], computed when the first one is asked for."""
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
    """Steps of one pass over a draft, up to the first choice that the draft does not make.

    Args:
        row: whose draft it is.
        draft: ids that were scored; there may be none.
        scores: float32 [> len(draft), vocab], in front of the draft and behind each of its ids.
        choices: of each of the scores; one is asked for when all before it are accepted.
        stops: ids that end a text.
        prefill: whether the pass read the prompt.
    """
    for place, choice in enumerate(choices):
        step = row.take(scores[place], choice, stops, 0.0, prefill)
        yield step
        if step.finish is not None or place == len(draft) or step.token != draft[place]:
            return


class DecodeLoop:
    """Requests that are decoded together, one dense batch of cache rows.

    The caller decides what happens between two passes: it admits requests while `fits` allows it
    and takes a step. A finished row leaves at once, and the last row takes its place in the cache.

    Args:
        backend: runs the model.
        stops: ids that end a text.
        rows: most requests in one batch, at least 1.

    Raises:
        ValueError: there are no rows to decode in.
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
        taken = advance(self._backend, self._cache, self._active, self._stops)
        # From the last row to the first: a dropped row's place is taken by one already judged.
        for index in reversed(range(len(taken))):
            if taken[index][-1].finish is not None:
                self._drop(self._cache, index)
        return [*steps, *chain.from_iterable(taken)]

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
    """Continue requests, up to `rows` of them at once.

    Args:
        backend, stops, rows: see `DecodeLoop`.
        requests: taken one by one as rows become free.

    Yields:
        the steps of all requests, each request's in order; the last one of a request has a
        finish reason.

    Raises:
        ValueError: there are no rows to decode in.
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
