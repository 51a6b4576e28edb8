"""The cache rows of beam searches: a pass over all hypotheses, and rows that follow them.

The position of a hypothesis in the list of active rows is its row in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from auris.backends.base import Backend, Cache
from auris.decoding.beam import BeamSearch, Hypothesis
from auris.decoding.requests import Step

RowT = TypeVar("RowT")


def drop_row(backend: Backend, cache: Cache, active: list[RowT], row: int) -> None:
    """End a row; the last one takes its place."""
    backend.drop(cache, row)
    last = active.pop()
    if row < len(active):
        active[row] = last


def begin_search(
    backend: Backend,
    cache: Cache,
    active: list[RowT | Hypothesis],
    search: BeamSearch,
    row: int,
    prefix: Sequence[Step],
    logits: Tensor,
) -> list[Step]:
    """Begin a search in the row that has its prompt.

    Args:
        prefix: steps of its forced prefix, which is in the row, too.
        logits: float32 [1, vocab] behind the last position.

    Returns:
        the steps of its text, if that is known already.
    """
    root = search.start(prefix)
    active[row] = root
    return _follow(backend, cache, active, search, [root], logits)


def advance_searches(backend: Backend, cache: Cache, active: list[RowT | Hypothesis]) -> list[Step]:
    """One pass over the hypotheses of all searches; returns the steps of those that are over."""
    began = time.perf_counter()
    hypotheses = [one for one in active if isinstance(one, Hypothesis)]
    if not hypotheses:
        return []
    inputs = [[hypothesis.choices[-1].token] for hypothesis in hypotheses]
    logits = backend.extend(cache, inputs, _rows_of(active, hypotheses))[:, -1]
    searches = dict.fromkeys(hypothesis.search for hypothesis in hypotheses)
    share = (time.perf_counter() - began) / len(searches)
    steps = []
    for search in searches:
        search.seconds += share
        own = [index for index, one in enumerate(hypotheses) if one.search is search]
        followed = [hypotheses[index] for index in own]
        scores = logits if len(searches) == 1 else logits[own]
        steps += _follow(backend, cache, active, search, followed, scores)
    return steps


def end_search(
    backend: Backend, cache: Cache, active: list[RowT | Hypothesis], search: BeamSearch
) -> list[Step]:
    """Cancel a search; returns the steps of its best text so far."""
    own = [one for one in active if isinstance(one, Hypothesis) and one.search is search]
    for row in sorted(_rows_of(active, own), reverse=True):
        drop_row(backend, cache, active, row)
    return search.cancelled_steps(own)


def _rows_of(active: Sequence[RowT | Hypothesis], hypotheses: Sequence[Hypothesis]) -> list[int]:
    rows = {one: row for row, one in enumerate(active) if isinstance(one, Hypothesis)}
    return [rows[hypothesis] for hypothesis in hypotheses]


def _follow(
    backend: Backend,
    cache: Cache,
    active: list[RowT | Hypothesis],
    search: BeamSearch,
    parents: Sequence[Hypothesis],
    logits: Tensor,
) -> list[Step]:
    """Extend the hypotheses of a search, and give each of the new ones a row.

    The first child of a hypothesis takes over its row. Others are copied into rows of hypotheses
    that are not followed any more, then into new ones.
    """
    began = time.perf_counter()
    rows = _rows_of(active, parents)
    children = search.extend(parents, logits)
    followed = {parent for parent, _ in children}
    free = sorted(row for index, row in enumerate(rows) if index not in followed)
    taken: set[int] = set()
    for parent, child in children:
        row = rows[parent]
        if row in taken:
            if free:
                row = free.pop()
                start = cache.lengths[row] - _own_tokens(parents[parent], active[row])
            else:
                (row,), start = backend.admit(cache), 0
                active.append(child)
            backend.copy_tail(cache, rows[parent], row, start)
        taken.add(row)
        active[row] = child
    for row in reversed(free):
        drop_row(backend, cache, active, row)
    search.seconds += time.perf_counter() - began
    return [] if children else search.steps()


def _own_tokens(one: Hypothesis, other: RowT | Hypothesis) -> int:
    """How many tokens at the ends of two hypotheses of a search they do not have in common. A
    choice belongs to one text, so those before a common choice are common, too."""
    assert isinstance(other, Hypothesis)
    pairs = zip(reversed(one.choices), reversed(other.choices), strict=True)
    common = (number for number, (own, others) in enumerate(pairs) if own is others)
    return next(common, len(one.choices))
