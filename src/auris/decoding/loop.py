"""The one autoregressive loop, for one request and for many, offline and live.

`DecodeLoop` holds the requests that are decoded together. `decode` runs it over an iterator of
requests. `advance` is one pass over given rows of a cache; streams call it with rows of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from auris.backends.base import Backend, Cache, Choice, StaticResult, best_of
from auris.decoding.beam import BeamSearch, Hypothesis
from auris.decoding.beam_rows import advance_searches, begin_search, drop_row, end_search
from auris.decoding.constrained import choose_prefix, given_choice, score_prefixes
from auris.decoding.drafts import Draft
from auris.decoding.preamble import SharedPreamble
from auris.decoding.repetition import Repetition
from auris.decoding.requests import MOST_BEAM_SIZE, Request, Step
from auris.decoding.sampling import ScoredText, choose, ids_logprob
from auris.decoding.static_rows import StaticRows, new_rows, takes_static_step
from auris.types import FinishReason

FIRST_ROOM = 1024
"""Cache positions for a text at first; the cache grows for longer texts."""


@dataclass(eq=False)
class DecodeRow:
    """A request that is being decoded."""

    request: Request
    generator: torch.Generator | None
    tokens: int = 0
    last: int = -1
    repetition: Repetition = field(default_factory=Repetition)
    draft: Draft = field(init=False)
    scored: ScoredText | None = None

    def __post_init__(self) -> None:
        if self.request.scorer is not None:
            self.scored = ScoredText(self.request.scorer)
        # Sampling verifies no drafts: samples behind the accepted text would use up random numbers.
        self.draft = Draft(() if self.generator else self.request.draft)

    def needs_scores(self) -> bool:
        """Whether the next token needs all scores, not only the best one."""
        probe = self.request.probe
        probes = probe is not None and probe.position == self.tokens
        return probes or self.generator is not None or self.scored is not None

    def choices(self, scores: Tensor, stops: Collection[int]) -> Iterator[Choice]:
        """The choices for float32 scores [n, vocab], in order.

        Each is made when it is needed: a scorer follows the choices that were recorded before, and
        samples behind the accepted text would use up random numbers.
        """
        if self.scored is not None:
            yield from (self.scored.choose(logits, stops) for logits in scores)
        elif self.generator is None:
            yield from best_of(scores)
        else:
            temperature = self.request.sampling.temperature
            for logits in scores:
                yield from choose(logits[None], [temperature], [self.generator])

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

    def record_result(self, result: StaticResult, seconds: float) -> Step:
        """Record what the static step gave; returns its step. The device looks for loops then."""
        probe, choice, token = self.request.probe, result.choice, None
        probed = probe is not None and probe.position == self.tokens
        if result.finish in (None, "loop"):
            self.tokens += 1
            token = self.last = choice.token
        probe_logprob = result.probe_logprob if probed else None
        scores = choice.logprob, choice.margin
        return Step(self.request.key, token, *scores, result.finish, seconds, False, probe_logprob)

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
        if self.scored is not None:
            self.scored.add(token)
        return token, "loop" if self.repetition.add(token) else None


def _prefill(
    backend: Backend,
    cache: Cache,
    requests: Sequence[Request],
    preamble: SharedPreamble,
    stops: Collection[int],
) -> list[tuple[DecodeRow, list[Step], Tensor]]:
    """Read the prompts of requests in one pass into new rows of the cache, and forced prefixes.

    Returns:
        the rows, the steps of their prefixes, and float32 [1, vocab] behind them.
    """
    cache_rows = backend.admit(cache, len(requests))
    prompts = [(request.preamble, request.prompt) for request in requests]
    prefilled: list[tuple[DecodeRow, list[Step], Tensor]] = []
    scores_of_rows = preamble.prefill(cache, cache_rows, prompts)
    for request, cache_row, scores in zip(requests, cache_rows, scores_of_rows, strict=True):
        row = DecodeRow(request, request.sampling.generator())
        if request.prefixes is None:
            prefilled.append((row, [], scores[None]))
            continue
        ids = choose_request_prefix(backend, cache, cache_row, scores, request)
        (behind,) = backend.extend(cache, [ids], [cache_row], "all")
        steps = prefix_steps(row, ids, [scores, *behind], stops)
        prefilled.append((row, steps, behind[-1:]))
    return prefilled


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
        chosen: Iterator[Choice] = chain([choice], _best(logits[index, 1 : 1 + len(draft)]))
        if row.scored is not None:
            chosen = row.choices(logits[index, : 1 + len(draft)], stops)
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
    Where the backend has a static step, it continues the requests that `takes_static_step` names.

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
        self._static: StaticRows | None = None
        # The position of each is its row in the cache. A search has one row for each hypothesis.
        self._active: list[DecodeRow | Hypothesis] = []
        self._preamble = SharedPreamble(backend)

    @property
    def active(self) -> int:
        """Requests that are not finished."""
        return len(self._requests())

    @property
    def free_rows(self) -> int:
        """Rows without a request."""
        return self._rows - self.active

    def fits(self, shares: Sequence[float]) -> bool:
        """Whether there are rows for more requests, and room for their shares of the batch; there
        is for one alone, and for none."""
        if not shares or (not self._active and len(shares) == 1):
            return True
        used = math.fsum((*shares, *(one.share for one in self._requests())))
        return len(shares) <= self.free_rows and used <= 1.0 + 1e-9

    def admit(self, requests: Sequence[Request]) -> list[Step]:
        """Run the prompts of requests through the model, in one pass; returns the steps that this
        gives."""
        if self._cache is None:
            capacity = max(
                len(request.prompt) + min(request.max_new_tokens, FIRST_ROOM)
                for request in requests
            )
            most = self._rows * 2 * MOST_BEAM_SIZE
            self._cache, self._static = new_rows(
                self._backend, self._rows, most, capacity, self._stops
            )
        began = time.perf_counter()
        prefilled = _prefill(self._backend, self._cache, requests, self._preamble, self._stops)
        seconds = (time.perf_counter() - began) / len(requests)
        first = len(self._active)
        self._active += [row for row, _, _ in prefilled]
        # From the last row to the first, as in `step`.
        for index, (row, steps, scores) in reversed(list(enumerate(prefilled, first))):
            ended = bool(steps) and steps[-1].finish is not None
            if not ended and row.request.needs_search:
                given = (self._backend, self._cache, self._active)
                search = BeamSearch(row.request, self._stops, seconds)
                steps[:] = begin_search(*given, search, index, steps, scores)
                continue
            if not ended:
                (choice,) = row.choices(scores, self._stops)
                steps.append(row.record(scores[0], choice, self._stops, seconds, True))
            if steps[-1].finish is not None:
                drop_row(self._backend, self._cache, self._active, index)
        if self._static is not None:
            going = [row for row, _, _ in prefilled if row in self._active]
            taken = [row for row in going if takes_static_step(row.request)]
            self._static.begin([(row, self._active.index(row)) for row in taken])
        return [step for _, steps, _ in prefilled for step in steps]

    def _requests(self) -> list[Request]:
        searches = [one.search for one in self._active if isinstance(one, Hypothesis)]
        rows = [one.request for one in self._active if isinstance(one, DecodeRow)]
        return [*rows, *(search.request for search in dict.fromkeys(searches))]

    def step(self) -> list[Step]:
        """One pass over all active requests; those that were cancelled end before it."""
        if self._cache is None:
            return []
        steps = self._end_cancelled(self._cache)
        if not self._active:
            return steps
        steps += self._step_static(self._cache)
        greedy = [
            (index, one)
            for index, one in enumerate(self._active)
            if isinstance(one, DecodeRow) and (self._static is None or one not in self._static)
        ]
        indices, rows = [index for index, _ in greedy], [row for _, row in greedy]
        steps_of_rows = advance(self._backend, self._cache, rows, self._stops, indices)
        # From the last row to the first: a dropped row is replaced by one that was checked already.
        for index, own in reversed(list(zip(indices, steps_of_rows, strict=True))):
            if own[-1].finish is not None:
                drop_row(self._backend, self._cache, self._active, index)
        searched = advance_searches(self._backend, self._cache, self._active)
        return [*steps, *chain.from_iterable(steps_of_rows), *searched]

    def _step_static(self, cache: Cache) -> list[Step]:
        """Steps of the requests that the static step of the backend continues."""
        steps = []
        for row, step in [] if self._static is None else self._static.step():
            steps.append(step)
            if step.finish is not None:
                drop_row(self._backend, cache, self._active, self._active.index(row))
        return steps

    def _end_cancelled(self, cache: Cache) -> list[Step]:
        steps = []
        for index in reversed(range(len(self._active))):
            one = self._active[index]
            if isinstance(one, DecodeRow) and one.request.cancelled():
                steps.append(Step(one.request.key, None, 0.0, 0.0, "cancelled", 0.0, prefill=False))
                if self._static is not None and one in self._static:
                    self._static.end(one)
                drop_row(self._backend, cache, self._active, index)
        searches = [one.search for one in self._active if isinstance(one, Hypothesis)]
        for search in dict.fromkeys(searches):
            if search.request.cancelled():
                steps += end_search(self._backend, cache, self._active, search)
        return steps


def decode(
    backend: Backend, requests: Iterable[Request], stops: Collection[int], rows: int = 1
) -> Iterator[Step]:
    """Continue requests, up to `rows` of them at once, taken as rows become free.

    Yields:
        the steps of all requests, each request's in order; the last one of a request has a
        finish reason.
    """
    loop = DecodeLoop(backend, stops, rows)
    waiting = iter(requests)
    following: Request | None = None
    exhausted = False
    while True:
        group: list[Request] = []
        while not exhausted and len(group) < loop.free_rows:
            following = following or next(waiting, None)
            exhausted = following is None
            if following is None or not loop.fits([one.share for one in (*group, following)]):
                break
            group.append(following)
            following = None
        if group:
            yield from loop.admit(group)
        if not loop.active and exhausted:
            return
        yield from loop.step()
