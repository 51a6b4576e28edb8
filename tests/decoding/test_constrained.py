"""Forced prefixes: the choice equals that of scoring every prefix separately."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.backends.torch import TorchBackend
from auris.decoding.constrained import ForcedPrefix, choose_prefix, score_prefixes
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from tests.backends.fake import FakeBackend
from tests.tiny_models import tiny_model

Ids = tuple[int, ...]

PROMPT = [5, 9, 30, 2]
openings = st.lists(
    st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(tiny_model())


def after(backend: TorchBackend, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities after some ids, in a separate pass."""
    cache = backend.new_cache(1, len(ids))
    backend.admit(cache)
    return backend.extend(cache, [ids])[0, -1].log_softmax(-1)


def alone(backend: TorchBackend, opening: Ids) -> tuple[float, bool]:
    """Log-probability of a prefix, token by token, and whether it is the greedy choice."""
    total, own = 0.0, True
    for place, token in enumerate(opening):
        scores = after(backend, [*PROMPT, *opening[:place]])
        total += float(scores[token])
        own &= int(scores.argmax()) == token
    return total, own


def steps_of(backend: TorchBackend | FakeBackend, request: Request, stop: int = 50) -> list[Step]:
    return list(decode(backend, [request], [stop]))


def tokens(steps: list[Step]) -> list[int]:
    return [step.token for step in steps if step.token is not None]


@settings(max_examples=60, deadline=None)
@given(openings, openings)
def test_the_chosen_prefix_equals_that_of_exhaustive_scoring(
    backend: TorchBackend, allowed: list[Ids], kept: list[Ids]
) -> None:
    found = {ids: alone(backend, ids) for ids in (*allowed, *kept)}
    own = [ids for ids in (*allowed, *kept) if found[ids][1]]
    best = max(found[ids][0] for ids in allowed)
    steps = steps_of(
        backend, Request(0, PROMPT, 9, prefixes=tuple(allowed), allowed_prefixes=tuple(kept))
    )
    said = tokens(steps)
    if own:
        assert any(said[: len(ids)] == list(ids) for ids in own)
    else:
        taken = [ids for ids in allowed if said[: len(ids)] == list(ids)]
        assert any(found[ids][0] >= best - 1e-4 for ids in taken)
    # The rest is the model's continuation of that prefix.
    scores = [after(backend, [*PROMPT, *said[:place]]) for place in range(len(said))]
    for step, one in zip(steps, scores, strict=False):
        if step.token is not None:
            assert step.logprob == pytest.approx(float(one[step.token]), abs=1e-4)


def test_an_allowed_greedy_prefix_is_taken(backend: TorchBackend) -> None:
    free = tokens(steps_of(backend, Request(0, PROMPT, 8)))
    own, other = tuple(free[:3]), (7, 8, 9)
    for allowed, kept in (((other, own), ()), ((other,), (own,))):
        request = Request(0, PROMPT, 8, prefixes=allowed, allowed_prefixes=kept)
        assert tokens(steps_of(backend, request)) == free
    request = Request(0, PROMPT, 8, prefixes=(other,))
    assert tokens(steps_of(backend, request))[:3] == [7, 8, 9]


def test_scoring_does_not_change_the_row(backend: TorchBackend) -> None:
    cache = backend.new_cache(2, 16)
    backend.admit(cache, 2)
    before = backend.extend(cache, [PROMPT, PROMPT[:2]])[:, -1]
    first = score_prefixes(backend, cache, 1, before[1], [(4, 5, 6), (7,)])
    assert list(cache.lengths) == [4, 2]
    again = score_prefixes(backend, cache, 1, before[1], [(7,), (4, 5, 6)])
    assert [one.logprob for one in first] == pytest.approx([one.logprob for one in again[::-1]])


def test_choosing_among_prefixes() -> None:
    low, high = ForcedPrefix((1,), -9.0, False), ForcedPrefix((2,), -1.0, False)
    own = ForcedPrefix((3,), -5.0, True)
    assert choose_prefix([low, high], []) is high
    assert choose_prefix([low, own, high], []) is own
    assert choose_prefix([low, high], [own]) is own
    assert choose_prefix([low], [high]) is low


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_the_budget_applies_inside_a_forced_prefix(budget: int) -> None:
    backend = FakeBackend({0: [10, 11, 12, 13]}, 60, stop=50)
    steps = steps_of(backend, Request(0, [0], budget, prefixes=((10, 11, 12),)))
    assert tokens(steps) == [10, 11, 12, 13][:budget]
    assert steps[-1].finish == ("length" if budget < 4 else "stop")
    assert all(step.prefill for step in steps[:budget])


def test_rows_with_and_without_forced_prefixes_together() -> None:
    scripts = {key: [10 + key, 20 + key, 30 + key] for key in range(4)}
    backend = FakeBackend(scripts, 40, stop=9)
    requests = [
        Request(key, [key], 8, prefixes=((10 + key, 20 + key),) if key % 2 else None)
        for key in range(4)
    ]
    said: dict[int, list[int]] = {key: [] for key in range(4)}
    for step in decode(backend, requests, [9], 3):
        if step.token is not None:
            said[step.key].append(step.token)
    assert said == scripts


def in_flight(shares: Sequence[float], rows: int) -> list[float]:
    """Numbers of rows in every pass that advances rows."""
    backend = FakeBackend({n: [20] * (1 + n % 3) for n in range(len(shares))}, 30, stop=9)
    requests = [Request(n, [n], 9, share=share) for n, share in enumerate(shares)]
    under_way: set[int] = set()
    most: list[float] = []
    finished = 0
    for step in decode(backend, requests, [9], rows):
        under_way.add(step.key)
        most.append(sum(shares[key] for key in under_way))
        assert len(under_way) <= rows
        if step.finish is not None:
            under_way.discard(step.key)
            finished += 1
    assert finished == len(shares)
    return most


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.4, 1.0, 3.0]), max_size=12), st.integers(1, 5))
def test_probabilities_of_a_batch_add_up_to_one(shares: list[float], rows: int) -> None:
    for total in in_flight(shares, rows):
        assert total <= max([1.0, *shares]) + 1e-6
