"""Beam search against brute force, greedy decoding, and itself in other batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.backends.base import Cache
from auris.decoding.beam import BeamSearch
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import Probe, ids_logprob
from auris.decoding.scoring import (
    Scores,
    State,
    Tokens,
    TokenScorer,
    WeightedScorer,
    text_score,
)
from tests.backends.fake import FakeCache, RandomBackend
from tests.decoding.scorers import TableScorer, state_after

STOPS = (0, 1)
VOCAB = 5
BUDGET = 3
EVERYTHING = VOCAB**BUDGET * 2
"""A beam that no hypothesis leaves."""


def scorers(least: float, most: float) -> st.SearchStrategy[TableScorer]:
    """Scorers that add numbers of a range."""
    scores = st.floats(least, most).map(lambda value: round(value, 3))
    tokens = st.tuples(st.integers(-1, 4), st.integers(2, 4))
    tables = st.dictionaries(tokens, scores, max_size=6)
    return st.builds(TableScorer, tables, st.dictionaries(st.integers(-1, 4), scores, max_size=3))


SCORERS = scorers(-3, 3)


def texts(steps: Sequence[Step]) -> dict[int, tuple[list[int], str | None]]:
    """Tokens and finish reason of every request."""
    result: dict[int, tuple[list[int], str | None]] = {}
    for step in steps:
        tokens, finish = result.setdefault(step.key, ([], None))
        assert finish is None, "a step after the end"
        if step.token is not None:
            tokens.append(step.token)
        result[step.key] = tokens, step.finish
    return result


def best_by_definition(
    backend: RandomBackend, prompt: int, penalty: float, scorer: TokenScorer | None
) -> tuple[int, ...]:
    """The best complete text of at most `BUDGET` tokens; a loop is far longer than that."""
    scorer = scorer or WeightedScorer(())
    spoken = range(2, VOCAB)

    def logprobs(text: tuple[int, ...]) -> torch.Tensor:
        return backend.scores([prompt, *text]).log_softmax(-1)

    def total(text: tuple[int, ...]) -> float:
        """The score without the end of the text."""
        tokens = (float(logprobs(text[:length])[token]) for length, token in enumerate(text))
        return sum(tokens) + text_score(scorer, text) - scorer.end(state_after(scorer, text))

    def complete(text: tuple[int, ...]) -> float:
        stop = max(float(logprobs(text)[stop]) for stop in STOPS)
        return total(text) + stop + scorer.end(state_after(scorer, text))

    def ends(text: tuple[int, ...]) -> bool:
        """Whether a text may end here; at the budget, whether it would rather end than go on."""
        return len(text) < BUDGET or complete(text) > max(total((*text, one)) for one in spoken)

    lengths = range(BUDGET + 1)
    every = (text for length in lengths for text in itertools.product(spoken, repeat=length))
    return max(filter(ends, every), key=lambda text: complete(text) / (len(text) + 1) ** penalty)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.6, 1.0]), st.none() | scorers(-3, 0))
def test_a_beam_of_everything_finds_the_best_text(
    seed: int, penalty: float, scorer: TableScorer | None
) -> None:
    backend = RandomBackend(VOCAB, seed)
    request = Request(0, [7], BUDGET, scorer=scorer, beam_size=EVERYTHING, length_penalty=penalty)
    backend_rows = 40  # Rows that could admit requests; the beam uses them.
    ((tokens, finish),) = texts(list(decode(backend, [request], STOPS, backend_rows))).values()
    assert tuple(tokens) == best_by_definition(backend, 7, penalty, scorer)
    assert finish == "stop"


def one_beam(backend: RandomBackend, request: Request) -> tuple[list[int], str | None]:
    """The text of a beam search of size 1, which the decode loop never begins."""
    search = BeamSearch(request, STOPS, 0.0)
    row = list(request.prompt)
    following = [search.start()]
    while following:
        logits = backend.scores([*row, *(choice.token for choice in following[0].choices)])
        following = [child for _, child in search.extend(following, logits[None])]
    ((tokens, finish),) = texts(search.steps()).values()
    return tokens, finish


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 90), st.none() | SCORERS)
def test_a_beam_of_one_is_greedy_decoding(
    seed: int, budget: int, scorer: TableScorer | None
) -> None:
    backend = RandomBackend(VOCAB, seed, spread=3.0)
    request = Request(0, [9], budget, scorer=scorer)
    ((tokens, finish),) = texts(list(decode(backend, [request], STOPS))).values()
    assert one_beam(backend, request) == (tokens, finish)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(
        st.tuples(st.sampled_from([1, 1, 2, 3, 5]), st.integers(1, 12)), min_size=1, max_size=7
    ),
    st.integers(1, 4),
    st.none() | SCORERS,
)
def test_a_text_does_not_depend_on_the_batch(
    seed: int, kinds: list[tuple[int, int]], rows: int, scorer: TableScorer | None
) -> None:
    backend = RandomBackend(30, seed, spread=1.5)
    requests = [
        Request(key, [100 + key, 50], budget, beam_size=size, scorer=scorer if key % 2 else None)
        for key, (size, budget) in enumerate(kinds)
    ]
    alone = {
        key: text
        for request in requests
        for key, text in texts(list(decode(backend, [request], STOPS))).items()
    }
    steps = list(decode(backend, requests, STOPS, rows))
    assert texts(steps) == alone
    for request in requests:
        own = [step for step in steps if step.key == request.key]
        assert [step.prefill for step in own] == [True] + [False] * (len(own) - 1)


@given(st.integers(0, 200), st.integers(2, 6))
def test_scores_are_those_of_the_model_and_so_is_the_probe(seed: int, size: int) -> None:
    backend = RandomBackend(20, seed)
    probe = Probe(1, (3, 4))
    scorer = TableScorer({(-1, 5): 4.0})
    request = Request(0, [8], 6, beam_size=size, probe=probe, scorer=scorer)
    steps = list(decode(backend, [request], STOPS))
    row = [8]
    for step in steps:
        logits = backend.scores(row)
        token = step.token
        if token is None and step.finish == "stop":
            token = max(STOPS, key=lambda stop, scores=logits: float(scores[stop]))
        if token is not None:
            logprob = float(logits[token] - logits.logsumexp(-1))
            assert step.logprob == pytest.approx(logprob, abs=1e-5)
            others = torch.cat((logits[:token], logits[token + 1 :]))
            assert step.margin == pytest.approx(float(logits[token] - others.max()), abs=1e-5)
            row.append(token)
    values = [step.probe_logprob for step in steps if step.probe_logprob is not None]
    first = steps[0].token
    if first is None:
        assert values == []
    else:
        expected = ids_logprob(backend.scores([8, first]), probe.ids)
        assert values == pytest.approx([expected], abs=1e-5)


def test_a_forced_prefix_begins_every_hypothesis() -> None:
    backend = RandomBackend(20, 3)
    scorer = TableScorer({(7, 9): 50.0})
    request = Request(0, [8], 9, beam_size=4, prefixes=((5, 7), (6, 7)), scorer=scorer)
    steps = list(decode(backend, [request], STOPS))
    (tokens, _) = texts(steps)[0]
    assert tuple(tokens[:2]) in {(5, 7), (6, 7)}
    assert tokens[2] == 9


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_cancelled_search_gives_its_best_text_so_far(after: int) -> None:
    backend = RandomBackend(30, 1, spread=0.1)
    calls = itertools.count()
    request = Request(0, [8], 40, beam_size=3, cancelled=lambda: next(calls) >= after)
    neighbour = Request(1, [9], 12)
    both = texts(list(decode(backend, [request, neighbour], STOPS, 2)))
    tokens, finish = both[0]
    assert finish == "cancelled"
    assert len(tokens) == after + 1
    assert both[1] == texts(list(decode(backend, [neighbour], STOPS)))[1]


def test_a_text_that_loops_is_chosen_only_if_no_other_ends() -> None:
    class Loop(RandomBackend):
        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.full((8,), -9.0)
            scores[3] = 5.0
            if len(row) > 4 and self.seed:
                scores[0] = 0.0
            return scores

    request = Request(0, [9], 300, beam_size=2)
    assert texts(list(decode(Loop(8, 0), [request], STOPS)))[0][1] == "loop"
    tokens, finish = texts(list(decode(Loop(8, 1), [request], STOPS)))[0]
    assert (tokens, finish) == ([3] * 5, "stop")
    greedy = texts(list(decode(Loop(8, 1), [replace(request, beam_size=1)], STOPS)))[0]
    assert greedy == ([3] * 64, "loop")


def test_improbable_endings_do_not_end_the_search() -> None:
    class Certain(RandomBackend):
        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.zeros(8)
            scores[3 if len(row) < 7 else 0] = 12.0
            scores[1 if len(row) < 7 else 3] = 4.0
            return scores

    request = Request(0, [9], 300, beam_size=2)
    assert texts(list(decode(Certain(8, 0), [request], STOPS)))[0] == ([3] * 6, "stop")


def test_a_truncated_text_is_not_replaced_by_an_improbable_end() -> None:
    class NeverEnding(RandomBackend):
        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.zeros(8)
            scores[2 + len(row) % 4] = 12.0
            scores[0] = 2.0
            return scores

    request = Request(0, [9], 3, beam_size=2)
    assert texts(list(decode(NeverEnding(8, 0), [request], STOPS)))[0] == ([3, 4, 5], "length")


def test_rows_of_a_search_are_given_back() -> None:
    backend = RandomBackend(30, 2)
    requests = [Request(key, [key], 15, beam_size=4) for key in range(5)]
    list(decode(backend, requests, STOPS, 2))
    assert max(len(width) for width in backend.passes) == 8
    assert math.isfinite(sum(map(len, backend.passes)))


HOTWORDS = st.builds(
    lambda table: TableScorer(dict.fromkeys(table, 0.0) | table),
    st.dictionaries(
        st.tuples(st.integers(-1, 29), st.integers(2, 29)), st.floats(0.5, 6.0), max_size=40
    ),
)


class CopyingBackend(RandomBackend):
    """Notes how many positions of rows are copied; those before them have to be equal."""

    def __init__(self, vocab: int, seed: int) -> None:
        super().__init__(vocab, seed)
        self.copied: list[int] = []

    def copy_tail(self, cache: Cache, source: int, row: int, start: int) -> None:
        rows = cast(FakeCache, cache).rows
        if start:
            assert rows[row][:start] == rows[source][:start]
            assert rows[row][start] != rows[source][start]
            self.copied.append(len(rows[source]) - start)
        super().copy_tail(cache, source, row, start)
        assert rows[row] == rows[source]


def test_only_what_rows_do_not_have_in_common_is_copied() -> None:
    backend = CopyingBackend(30, 3)
    request = Request(0, [9], 12, beam_size=4)
    list(decode(backend, [request], STOPS))
    assert 0 < min(backend.copied) < max(backend.copied)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 10), HOTWORDS, st.none() | SCORERS)
def test_a_text_without_hotwords_is_that_of_a_search_without_them(
    seed: int, size: int, budget: int, hotwords: TableScorer, scorer: TableScorer | None
) -> None:
    backend = RandomBackend(30, seed, spread=1.5)
    request = Request(0, [9], budget, beam_size=size, scorer=scorer)
    plain = texts(list(decode(backend, [request], STOPS)))[0]
    text = texts(list(decode(backend, [replace(request, hotwords=hotwords)], STOPS)))[0]
    if text_score(hotwords, text[0]) == 0.0:
        assert text == plain
    else:
        assert text[1] in ("stop", plain[1])


class VagueScorer(TableScorer):
    """A scorer that says less exactly what it may add, and counts the tokens that it scores."""

    more = math.inf
    scored = 0

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        self.scored += len(tokens)
        return super().extend(state, tokens, margins)

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        scored = self.scored
        most = super().most(states, tokens) + self.more
        self.scored = scored
        return most


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(2, 5),
    st.dictionaries(
        st.tuples(st.integers(-1, 29), st.integers(2, 29)), st.floats(-3.0, 3.0), max_size=60
    ),
    st.sampled_from([0.0, 0.7, 4.0]),
)
def test_a_search_scores_few_tokens_and_finds_the_same(
    seed: int, size: int, table: dict[tuple[int, int], float], more: float
) -> None:
    backend = RandomBackend(30, seed, spread=1.5)
    found, counts = [], []
    for bound in (more, math.inf):
        scorer = VagueScorer(table)
        scorer.more = bound
        request = Request(0, [9], 8, beam_size=size, scorer=scorer)
        found.append(texts(list(decode(backend, [request], STOPS))))
        counts.append(scorer.scored)
    assert found[0] == found[1]
    assert counts[0] <= counts[1]
    assert more or counts[0] < counts[1] / 2


def test_a_hotword_is_followed_outside_the_beam() -> None:
    class Names(RandomBackend):
        """Writes 2 and 3, or with a lower probability the hotword 4 and 5."""

        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.full((8,), -9.0)
            if len(row) == 1:
                scores[2], scores[4] = 3.0, 0.0
            elif len(row) == 2:
                scores[row[1] + 1] = 3.0
            else:
                scores[0] = 3.0
            return scores

    request = Request(0, [9], 9)
    assert texts(list(decode(Names(8), [request], STOPS)))[0] == ([2, 3], "stop")
    hotwords = TableScorer({(4, 5): 5.0})
    # Its beginning scores nothing here, so it is followed only if the beam is large enough.
    for size, tokens in ((1, [2, 3]), (2, [4, 5])):
        searched = replace(request, beam_size=size, hotwords=hotwords)
        assert texts(list(decode(Names(8), [searched], STOPS)))[0] == (tokens, "stop")
    hotwords = TableScorer({(-1, 4): 4.0, (4, 5): 1.0})
    searched = replace(request, beam_size=1, hotwords=hotwords)
    assert texts(list(decode(Names(8), [searched], STOPS)))[0] == ([4, 5], "stop")


def test_a_hotword_counts_as_much_in_a_longer_text() -> None:
    class Words(RandomBackend):
        """Writes the hotword 2, and 3, 3, 3 behind it or with a lower probability nothing."""

        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.full((6,), -9.0)
            if len(row) == 1:
                scores[2] = 3.0
            elif len(row) == 2:
                scores[3], scores[0] = 3.0, 2.0
            else:
                scores[3 if len(row) < 5 else 0] = 3.0
            return scores

    request = Request(0, [9], 9, beam_size=2)
    plain = texts(list(decode(Words(6), [request], STOPS)))[0]
    assert plain == ([2, 3, 3, 3], "stop")
    for bonus in (1.0, 10.0, 100.0):
        searched = replace(request, hotwords=TableScorer({(-1, 2): bonus}))
        assert texts(list(decode(Words(6), [searched], STOPS)))[0] == plain


@pytest.mark.parametrize("bonus", [1.0, 10.0, 100.0])
def test_a_text_with_a_hotword_is_not_better_for_being_shorter(bonus: float) -> None:
    class Words(RandomBackend):
        """Writes the hotword 2, and 3 several times behind it, with as much for each token."""

        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.full((6,), -9.0)
            if len(row) == 1:
                scores[2] = 3.0
            elif len(row) < 6:
                scores[3], scores[0] = 3.0, 2.6
            else:
                scores[0] = 3.0
            return scores

    request = Request(0, [9], 9, beam_size=8)
    plain = texts(list(decode(Words(6), [request], STOPS)))[0]
    assert len(plain[0]) > 3
    searched = replace(request, hotwords=TableScorer({(-1, plain[0][0]): bonus}))
    assert texts(list(decode(Words(6), [searched], STOPS)))[0] == plain


def test_a_truncated_text_with_a_hotword_does_not_lose_to_an_unlikely_ending() -> None:
    class Words(RandomBackend):
        """Writes the hotword 2 and then 3 without end."""

        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.full((6,), -9.0)
            scores[2 if len(row) == 1 else 3] = 3.0
            return scores

    request = Request(0, [9], 5, beam_size=2)
    plain = texts(list(decode(Words(6), [request], STOPS)))[0]
    assert plain == ([2, 3, 3, 3, 3], "length")
    for bonus in (1.0, 100.0):
        searched = replace(request, hotwords=TableScorer({(-1, 2): bonus}))
        assert texts(list(decode(Words(6), [searched], STOPS)))[0] == plain


def test_a_hotword_may_begin_with_an_improbable_token() -> None:
    class Improbable(RandomBackend):
        """Writes 2; the tokens of the hotword are the worst ones of a hundred."""

        def scores(self, row: list[int]) -> torch.Tensor:
            scores = torch.linspace(-5.0, -6.0, 60)
            scores[2] = 0.0
            scores[0] = 3.0 if len(row) > 2 else -20.0
            return scores

    request = Request(0, [9], 9, beam_size=2, scorer=TableScorer({}))
    plain = texts(list(decode(Improbable(60), [request], STOPS)))[0]
    assert 59 not in plain[0]
    hotwords = TableScorer({(-1, 59): 9.0, (59, 58): 9.0})
    found = texts(list(decode(Improbable(60), [replace(request, hotwords=hotwords)], STOPS)))[0]
    assert found == ([59, 58], "stop")
