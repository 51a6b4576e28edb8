"""Drafts change the cost of a text and never the text."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.backends.torch import TorchBackend
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import Sampling
from auris.decoding.speculative import DraftedRequest, decode_drafts
from tests.backends.fake import FakeBackend
from tests.ties import Ties
from tests.tiny_models import qwen_config, tiny_model

STOPS = {0, 1, 2, 3}
PROMPTS = [[20, 21, 22], list(range(30, 60)), [99], list(range(5, 17))]
BUDGETS = [12, 1, 20, 9]


@cache
def backend() -> TorchBackend:
    return TorchBackend(tiny_model(qwen_config(), seed=2))


@cache
def plain(key: int, sampling: Sampling) -> list[Step]:
    request = Request(key, PROMPTS[key], BUDGETS[key], sampling)
    return list(decode(backend(), [request], STOPS))


def draft_of(key: int, sampling: Sampling, chance: random.Random) -> list[int]:
    """The correct draft, possibly with an error, truncated or too long."""
    draft = [step.token for step in plain(key, sampling) if step.token is not None]
    if draft and chance.random() < 0.6:
        draft[chance.randrange(len(draft))] = chance.randrange(5, 300)
    if chance.random() < 0.3:
        draft = draft[: chance.randrange(len(draft) + 1)]
    return draft + [chance.randrange(300) for _ in range(chance.choice([0, 0, 3]))]


OPENINGS = (((40, 41, 42), (43,)), ((44, 45),))
"""What texts may begin with, and what they may besides."""


@cache
def opened(key: int) -> list[Step]:
    chosen, kept = OPENINGS
    request = Request(key, PROMPTS[key], BUDGETS[key], prefixes=chosen, allowed_prefixes=kept)
    return list(decode(backend(), [request], STOPS))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=4, max_size=4))
def test_forced_prefixes_are_the_same_with_a_draft(seed: int, free: list[bool]) -> None:
    """Together with requests without prefixes; drafts are correct, or wrong inside or after the
    prefix."""
    chance, runner, ties = random.Random(seed), backend(), Ties()
    store = runner.new_cache(4, 8)
    runner.admit(store, 4)
    drafted, wanted = [], []
    for key in range(4):
        steps = plain(key, Sampling()) if free[key] else opened(key)
        draft = [step.token for step in steps if step.token is not None]
        if chance.random() < 0.7:
            draft[chance.randrange(len(draft))] = 9
        chosen, kept = (None, ()) if free[key] else OPENINGS
        request = Request(key, PROMPTS[key], BUDGETS[key], prefixes=chosen, allowed_prefixes=kept)
        drafted.append(DraftedRequest(request, key, draft[: chance.randrange(len(draft) + 1)]))
        wanted.append(steps)
    said: list[list[Step]] = [[], [], [], []]
    for step in decode_drafts(runner, store, drafted, STOPS):
        said[step.key].append(step)
    for key in range(4):
        ours, theirs = ([step.token for step in steps] for steps in (said[key], wanted[key]))
        ties.same(ours[:-1], theirs[:-1], [s.margin for s in said[key]], f"text {key}")
        assert said[key][-1].finish == wanted[key][-1].finish
        held = store.lengths[key] - len(PROMPTS[key])
        tokens = sum(token is not None for token in ours)
        assert held in (tokens, tokens - 1)


@settings(max_examples=30)
@given(
    st.integers(0, 10_000),
    st.permutations(range(4)),
    st.integers(1, 4),
    st.sampled_from([Sampling(), Sampling(0.9, 3)]),
    st.booleans(),
)
def test_any_draft_gives_the_same_text(
    seed: int, order: list[int], count: int, sampling: Sampling, embedded: bool
) -> None:
    """In any rows of a cache, with or without a part of the prompt in the cache."""
    chance, runner, ties = random.Random(seed), backend(), Ties()
    cache = runner.new_cache(5, 8)
    runner.admit(cache, 5)
    rows = chance.sample(range(5), count)
    drafted = []
    for key, row in zip(order, rows, strict=False):
        prompt = PROMPTS[key]
        there = chance.randrange(len(prompt))
        if there:
            runner.extend(cache, [prompt[:there]], [row])
        rest = runner.embed(prompt[there:], None) if embedded else prompt[there:]
        request = Request(key, rest, BUDGETS[key], sampling)
        drafted.append(DraftedRequest(request, row, draft_of(key, sampling, chance)))
    said: dict[int, list[Step]] = {item.request.key: [] for item in drafted}
    for step in decode_drafts(runner, cache, drafted, STOPS):
        said[step.key].append(step)
    for item in drafted:
        key = item.request.key
        ours, theirs = ([s.token for s in found] for found in (said[key], plain(key, sampling)))
        ties.same(ours[:-1], theirs[:-1], [s.margin for s in said[key]], f"draft of {key}")
        assert said[key][-1].finish == plain(key, sampling)[-1].finish
        tokens = [token for token in ours if token is not None]
        held = cache.lengths[item.row] - len(PROMPTS[key])
        assert held in (len(tokens), len(tokens) - 1)


def test_a_correct_draft_needs_one_pass() -> None:
    fake = FakeBackend({7: [4, 5, 6, 8, 9]}, vocab=12, stop=0)
    cache = fake.new_cache(1, 16)
    fake.admit(cache)
    drafted = DraftedRequest(Request(0, [7], 20), 0, [4, 5, 6, 8, 9])
    steps = list(decode_drafts(fake, cache, [drafted], {0}))
    assert [step.token for step in steps] == [4, 5, 6, 8, 9, None]
    assert all(step.prefill for step in steps)
    assert fake.passes == [[6]]


def test_a_draft_is_accepted_up_to_its_first_error() -> None:
    fake = FakeBackend({7: [4, 5, 6]}, vocab=12, stop=0)
    cache = fake.new_cache(2, 16)
    fake.admit(cache, 2)
    drafted = DraftedRequest(Request(0, [7], 20), 1, [4, 9, 6])
    steps = list(decode_drafts(fake, cache, [drafted], {0}))
    assert [(step.token, step.prefill) for step in steps] == [
        (4, True),
        (5, True),
        (6, False),
        (None, False),
    ]
    assert fake.passes == [[4], [1], [1]]
    assert cache.lengths == [0, 4]


def test_an_empty_draft() -> None:
    runner = backend()
    assert list(decode_drafts(runner, runner.new_cache(1, 1), [], STOPS)) == []


@pytest.mark.parametrize("budget", [1, 3])
def test_the_token_budget_ends_a_draft(budget: int) -> None:
    fake = FakeBackend({7: [4, 5, 6, 8]}, vocab=12, stop=0)
    cache = fake.new_cache(1, 16)
    fake.admit(cache)
    steps = list(
        decode_drafts(fake, cache, [DraftedRequest(Request(0, [7], budget), 0, [4, 5, 6, 8])], {0})
    )
    assert [step.token for step in steps] == [*[4, 5, 6, 8][:budget], None]
    assert steps[-1].finish == "length"


def test_the_last_positions_of_rows_are_scored() -> None:
    """The same scores as of all positions, the end of every row on the right."""
    runner, inputs = backend(), [PROMPTS[0], PROMPTS[3], PROMPTS[1]]
    found = []
    for positions in ("all", 3):
        cache = runner.new_cache(4, 4)
        runner.admit(cache, 4)
        found.append(runner.extend(cache, inputs, [3, 0, 2], positions))
    everywhere, last = found
    assert last.shape[1] == 3
    for row, item in enumerate(inputs):
        torch.testing.assert_close(
            last[row], everywhere[row, len(item) - 3 : len(item)], atol=1e-5, rtol=0
        )
