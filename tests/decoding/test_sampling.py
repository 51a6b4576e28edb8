"""The choice of tokens: the best one or a sample, and its log-probability."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.decoding.sampling import Sampling, best_tokens, choose, ids_logprob, ids_logprobs

GREEDY = Sampling()


def draws(logits: torch.Tensor, sampling: Sampling, count: int) -> list[int]:
    generator = sampling.generator()
    return [choose(logits, [sampling.temperature], [generator])[0].token for _ in range(count)]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 40))
def test_greedy_returns_the_best_token_and_its_logprob(seed: int, rows: int, vocab: int) -> None:
    logits = 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))
    choices = choose(logits, [0.0] * rows, [None] * rows)
    exact = torch.log_softmax(logits.double(), -1)
    for row, choice in enumerate(choices):
        ranked = logits[row].sort(descending=True).values
        assert choice.token == int(logits[row].argmax())
        assert choice.logprob == pytest.approx(float(exact[row].max()), abs=1e-5)
        assert choice.margin == pytest.approx(float(ranked[0] - ranked[1]), abs=1e-6)


def test_the_logprob_of_a_sampled_token_is_that_at_temperature_one() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    exact = torch.log_softmax(logits.double(), -1)[0]
    sampling = Sampling(temperature=3.0, seed=5)
    generator = sampling.generator()
    seen = set()
    for _ in range(50):
        (choice,) = choose(logits, [3.0], [generator])
        assert choice.logprob == pytest.approx(float(exact[choice.token]), abs=1e-6)
        assert choice.margin == pytest.approx(1.0)
        seen.add(choice.token)
    assert len(seen) > 1


def test_samples_depend_on_the_seed_and_not_on_the_batch() -> None:
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(1))
    alone = Sampling(1.3, seed=7)
    wanted = [draws(logits[row][None], alone, 5) for row in range(6)]
    generators = [Sampling(1.3, seed=7).generator() for _ in range(6)]
    together = [
        [choice.token for choice in choose(logits, [1.3] * 6, generators)] for _ in range(5)
    ]
    assert [list(row) for row in zip(*together, strict=True)] == wanted
    mixed = [Sampling(1.3, seed=7).generator() if row % 2 else None for row in range(6)]
    choices = choose(logits, [1.3 if row % 2 else 0.0 for row in range(6)], mixed)
    for row, choice in enumerate(choices):
        assert choice.token == (wanted[row][0] if row % 2 else int(logits[row].argmax()))


def test_other_seeds_give_other_tokens() -> None:
    logits = torch.zeros(1, 1000)
    assert draws(logits, Sampling(1.0, 1), 4) != draws(logits, Sampling(1.0, 2), 4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_temperature(temperature: float) -> None:
    logits = torch.tensor([[1.5, 1.0, 0.0, -0.5]])
    chances = torch.softmax(logits[0] / temperature, -1)
    count = 3000
    seen = torch.bincount(torch.tensor(draws(logits, Sampling(temperature, 3), count)), minlength=4)
    # Five standard deviations, which random samples never exceed.
    for share, number in zip(chances.tolist(), seen.tolist(), strict=True):
        assert abs(number - count * share) < 5 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-45, 5e-324])
def test_a_tiny_temperature_gives_the_best_token(temperature: float) -> None:
    logits = torch.tensor([[3.0, 9.0, 8.5, -2.0]])
    assert draws(logits, Sampling(temperature, 0), 20) == [1] * 20


def test_temperature_zero_needs_no_generator() -> None:
    assert GREEDY.generator() is None
    assert Sampling(0.0, seed=9).generator() is None
    assert Sampling(0.1).generator() is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_logprob_of_nan_scores_is_nan(bad: float) -> None:
    logits = torch.full((2, 4), bad)
    logits[1] = torch.arange(4.0)
    sampling = Sampling(0.5)
    choices = choose(logits, [0.5, 0.5], [sampling.generator(), sampling.generator()])
    assert math.isnan(choices[0].logprob)
    assert not math.isnan(choices[1].logprob)


@given(st.integers(0, 10_000), st.sets(st.integers(0, 19), min_size=1))
def test_the_probability_of_several_tokens_is_their_sum(seed: int, ids: set[int]) -> None:
    logits = 5 * torch.randn(20, generator=torch.Generator().manual_seed(seed))
    exact = torch.softmax(logits.double(), -1)[sorted(ids)].sum()
    found = ids_logprob(logits, tuple(sorted(ids)))
    assert found <= 0.0
    assert math.exp(found) == pytest.approx(float(exact), abs=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 9), st.sets(st.integers(0, 499), min_size=1))
def test_probabilities_of_texts_together_are_those_of_each_alone(
    seed: int, rows: int, ids: set[int]
) -> None:
    logits = 5 * torch.randn(rows, 500, generator=torch.Generator().manual_seed(seed))
    assert ids_logprobs(logits, tuple(ids)) == [ids_logprob(one, tuple(ids)) for one in logits]
    best, alone = best_tokens(logits, 20), [best_tokens(one[None], 20) for one in logits]
    assert [best.of(row) for row in range(rows)] == [one.of(0) for one in alone]
