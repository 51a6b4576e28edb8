"""Drafts change the number of passes and nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from auris.backends.torch import TorchBackend
from auris.decoding.drafts import MAX_DRAFT_TOKENS, MAX_SKIPPED_TOKENS, Draft
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import Sampling
from tests.decoding.test_loop import STOP, backend_of, gather, requests_of
from tests.ties import Ties
from tests.tiny_models import tiny_model

IDS = st.lists(st.integers(1, 6), max_size=20)


@settings(max_examples=80)
@given(st.lists(st.tuples(IDS, IDS, st.integers(1, 25)), min_size=1, max_size=4), st.integers(1, 3))
def test_scripted_texts_are_the_same_with_any_draft(
    cases: list[tuple[list[int], list[int], int]], rows: int
) -> None:
    scripts = [script for script, _, _ in cases]
    plain = requests_of([budget for _, _, budget in cases])
    drafted = [
        replace(request, draft=tuple(draft))
        for request, (_, draft, _) in zip(plain, cases, strict=True)
    ]
    one, other = (
        gather(decode(backend_of(scripts), requests, [STOP], rows)) for requests in (plain, drafted)
    )
    assert one == other


def test_a_correct_draft_needs_few_passes() -> None:
    script = [1, 2, 3, 4, 5, 6, 1, 3, 5, 2, 4, 6]
    backend = backend_of([script])
    (request,) = requests_of([50])
    told = gather(decode(backend, [replace(request, draft=tuple(script))], [STOP]))
    assert told[0].tokens == script
    # The prompt, one token with a full draft, and the rest of the draft with the end.
    assert backend.passes == [[1], [1 + MAX_DRAFT_TOKENS], [3]]


def test_a_draft_continues_after_a_difference() -> None:
    draft = Draft([1, 2, 3, 4, 5])
    draft.take(1)
    assert draft.ahead() == (2, 3, 4, 5)
    draft.take(9)
    assert draft.ahead() == ()
    draft.take(3)
    assert draft.ahead() == (4,)
    draft.take(4)
    assert draft.ahead() == (5,)
    long = Draft(range(100))
    long.take(1)
    lengths = []
    for token in range(2, 6):
        lengths.append(len(long.ahead()))
        long.take(token)
    assert [*lengths, len(long.ahead())] == [1, 2, 4, 8, MAX_DRAFT_TOKENS]
    far = Draft(range(MAX_SKIPPED_TOKENS + 2))
    far.take(MAX_SKIPPED_TOKENS)
    assert far.ahead() == ()


@settings(max_examples=15)
@given(st.integers(0, 5), st.lists(st.integers(0, 30), max_size=30), st.integers(1, 3))
def test_texts_of_a_model_are_the_same_with_any_draft(
    seed: int, noise: list[int], rows: int
) -> None:
    backend = TorchBackend(tiny_model(seed=seed).requires_grad_(False))
    plain = [Request(key, [5 + key, 7, 9], 12) for key in range(3)]
    steps = list(decode(backend, plain, [STOP], rows))
    said = {key: [s for s in steps if s.key == key] for key in range(3)}
    # The text with some ids replaced: partly correct drafts.
    drafted = [
        replace(request, draft=tuple(_spoiled(said[request.key], noise))) for request in plain
    ]
    again = list(decode(backend, drafted, [STOP], rows))
    ties = Ties()
    for key in range(3):
        ties.same(
            [s.token for s in said[key] if s.token is not None],
            [s.token for s in again if s.key == key and s.token is not None],
            [s.margin for s in said[key]],
            f"seed {seed}, request {key}",
        )


def _spoiled(steps: list[Step], noise: list[int]) -> list[int]:
    tokens = [step.token for step in steps if step.token is not None]
    places = itertools.cycle(noise or [30])
    return [noise[0] if next(places) < 6 else token for token in tokens]


def test_samples_are_the_same_with_a_draft() -> None:
    backend = TorchBackend(tiny_model().requires_grad_(False))
    request = Request(0, [5, 7, 9], 12, Sampling(temperature=1.0, seed=3))
    one, other = (
        [s.token for s in decode(backend, [given], [STOP])]
        for given in (request, replace(request, draft=(1, 2, 3)))
    )
    assert one == other
