"""The decode loop on scripted scores: order, admission and ends of texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.decoding.loop import DecodeLoop, decode
from auris.decoding.requests import Request, Step, never
from auris.decoding.sampling import Probe
from tests.backends.fake import FakeBackend

VOCAB = 64
STOP = 0
FIRST_PROMPT = 40
"""Prompts are one id long: 40 for request 0, 41 for request 1, and so on."""


@dataclass
class Collected:
    """The combined steps of one request."""

    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    prefills: int = 0


def backend_of(scripts: Sequence[Sequence[int]]) -> FakeBackend:
    return FakeBackend(
        {FIRST_PROMPT + key: script for key, script in enumerate(scripts)}, VOCAB, STOP
    )


def requests_of(budgets: Sequence[int]) -> list[Request]:
    return [Request(key, [FIRST_PROMPT + key], budget) for key, budget in enumerate(budgets)]


def gather(steps: Iterator[Step]) -> dict[int, Collected]:
    told: dict[int, Collected] = {}
    for step in steps:
        one = told.setdefault(step.key, Collected())
        assert one.finish is None, "a step after the end"
        assert step.prefill == (one.prefills == 0), "only the first pass of a request prefills"
        one.prefills += 1
        if step.token is not None:
            one.tokens.append(step.token)
        one.finish = step.finish
    return told


def expected(script: Sequence[int], budget: int) -> tuple[list[int], str]:
    """The result of one request alone, by definition."""
    spoken = list(script)
    if STOP in spoken:
        spoken = spoken[: spoken.index(STOP)]
    return (spoken, "stop") if len(spoken) <= budget else (spoken[:budget], "length")


scripts = st.lists(st.lists(st.integers(0, 39), max_size=12), max_size=9)


@settings(max_examples=300, deadline=None)
@given(scripts, st.integers(1, 5), st.data())
def test_texts_do_not_depend_on_the_batch(
    scripts: list[list[int]], rows: int, data: st.DataObject
) -> None:
    budgets = data.draw(st.lists(st.integers(1, 13), min_size=len(scripts), max_size=len(scripts)))
    told = gather(decode(backend_of(scripts), requests_of(budgets), {STOP}, rows))
    assert sorted(told) == list(range(len(scripts)))
    for key, (script, budget) in enumerate(zip(scripts, budgets, strict=True)):
        assert (told[key].tokens, told[key].finish) == expected(script, budget)


@settings(max_examples=100, deadline=None)
@given(scripts, st.integers(1, 5))
def test_passes_have_only_active_rows(scripts: list[list[int]], rows: int) -> None:
    backend = backend_of(scripts)
    gather(decode(backend, requests_of([20] * len(scripts)), {STOP}, rows))
    assert all(len(width) <= rows for width in backend.passes)
    # The passes of a request: its prompt, and one for each of its tokens.
    said = sum(len(expected(script, 20)[0]) for script in scripts)
    assert sum(len(width) for width in backend.passes) == len(scripts) + said


def test_steps_of_one_request_come_in_order_with_their_scores() -> None:
    steps = list(decode(backend_of([[5, 6]]), requests_of([9]), {STOP}))
    assert [step.token for step in steps] == [5, 6, None]
    assert [step.finish for step in steps] == [None, None, "stop"]
    assert [step.prefill for step in steps] == [True, False, False]
    assert all(step.margin == 1.0 and step.logprob < 0 and step.seconds >= 0 for step in steps)


def test_requests_are_prepared_only_when_a_row_is_free() -> None:
    taken = []

    def source() -> Iterator[Request]:
        for request in requests_of([9, 9, 9, 9]):
            taken.append(request.key)
            yield request

    steps = decode(backend_of([[5, 6, 7], [5], [8], []]), source(), {STOP}, rows=2)
    assert taken == []
    seen = [(step.key, step.token, step.finish, tuple(taken)) for step in steps]
    assert seen == [
        (0, 5, None, (0, 1)),
        (1, 5, None, (0, 1)),
        (0, 6, None, (0, 1)),
        (1, None, "stop", (0, 1)),
        (2, 8, None, (0, 1, 2)),
        (0, 7, None, (0, 1, 2)),
        (2, None, "stop", (0, 1, 2)),
        (3, None, "stop", (0, 1, 2, 3)),
        (0, None, "stop", (0, 1, 2, 3)),
    ]


def test_an_exhausted_source_is_not_read_again() -> None:
    asked = 0

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> Request:
            nonlocal asked
            asked += 1
            if asked == 1:
                return requests_of([9])[0]
            raise StopIteration

    list(decode(backend_of([[5, 6, 7]]), Source(), {STOP}, rows=4))
    assert asked == 2


def test_a_text_of_exactly_its_budget_is_complete() -> None:
    exact, cut = gather(
        decode(backend_of([[5, 6], [5, 6, 7]]), requests_of([2, 2]), {STOP})
    ).values()
    assert (exact.tokens, exact.finish) == ([5, 6], "stop")
    assert (cut.tokens, cut.finish) == ([5, 6], "length")


def test_a_reply_of_only_a_stop_token() -> None:
    (step,) = decode(backend_of([[]]), requests_of([3]), {STOP})
    assert (step.token, step.finish, step.prefill) == (None, "stop", True)


def test_several_stop_ids() -> None:
    told = gather(decode(backend_of([[5, 33, 6]]), requests_of([9]), {STOP, 33}))
    assert told[0].tokens == [5]
    assert told[0].finish == "stop"


def test_no_requests() -> None:
    backend = backend_of([])
    assert list(decode(backend, [], {STOP}, rows=3)) == []
    assert backend.passes == []


def test_zero_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        list(decode(backend_of([[5]]), requests_of([9]), {STOP}, rows=0))


def test_ending_the_iteration_stops_decoding() -> None:
    closed = []

    def source() -> Iterator[Request]:
        try:
            yield from requests_of([9, 9])
        finally:
            closed.append(True)

    backend = backend_of([[5] * 9, [6] * 9])
    steps = decode(backend, source(), {STOP}, rows=1)
    assert len(list(islice(steps, 3))) == 3
    passes = len(backend.passes)
    steps.close()
    del steps
    assert closed == [True]
    assert len(backend.passes) == passes == 3


def test_an_error_in_the_source_is_raised() -> None:
    def source() -> Iterator[Request]:
        yield requests_of([9])[0]
        raise RuntimeError("no more")

    steps = decode(backend_of([[5, 6]]), source(), {STOP}, rows=1)
    assert [next(steps).token for _ in range(3)] == [5, 6, None]
    with pytest.raises(RuntimeError, match="no more"):
        next(steps)


@pytest.mark.parametrize("rows", [1, 2])
def test_probes_are_computed_only_at_their_position(rows: int) -> None:
    scripts = [[5, 6, 7, 8], [9], [6, 6, 6]]
    probes = [Probe(2, (7,)), Probe(3, (1,)), None]
    requests = [
        Request(key, [FIRST_PROMPT + key], 9, probe=probe) for key, probe in enumerate(probes)
    ]
    told: dict[int, list[float | None]] = {}
    for step in decode(backend_of(scripts), requests, {STOP}, rows):
        told.setdefault(step.key, []).append(step.probe_logprob)
    assert [value is None for value in told[0]] == [True, True, False, True, True]
    # The scripted token scores 1 and all others 0.
    assert told[0][2] == pytest.approx(math.log(math.e / (math.e + VOCAB - 1)), abs=1e-5)
    assert told[1] == [None, None]
    assert set(told[2]) == {None}


def test_a_request_joins_a_batch_that_is_active() -> None:
    first, second = requests_of([9, 9])
    loop = DecodeLoop(backend_of([[5] * 6 + [STOP], [7, 8, STOP]]), [STOP], rows=2)
    steps = loop.admit([first]) + loop.step() + loop.step()
    assert (loop.active, loop.free_rows, loop.fits([second.share])) == (1, 1, True)
    steps += loop.admit([second])
    assert not loop.fits([first.share])
    while loop.active:
        steps += loop.step()
    told = gather(iter(steps))
    assert [told[key].tokens for key in (0, 1)] == [[5] * 6, [7, 8]]
    assert [step.key for step in steps].index(1) == 3
    assert loop.step() == []


@given(leaving=st.sets(st.integers(0, 3)), after=st.integers(1, 5))
def test_a_cancelled_request_does_not_change_the_others(leaving: set[int], after: int) -> None:
    scripts = [[10 + key, 20 + key, 30 + key, 40 + key, 50 + key, STOP] for key in range(4)]
    taken = 0

    def cancelled() -> bool:
        return taken > after

    requests = [
        Request(key, [FIRST_PROMPT + key], 9, cancelled=cancelled if key in leaving else never)
        for key in range(4)
    ]
    told: dict[int, Collected] = {}
    for step in decode(backend_of(scripts), requests, [STOP], rows=3):
        taken += 1
        one = told.setdefault(step.key, Collected())
        assert one.finish is None
        if step.token is not None:
            one.tokens.append(step.token)
        one.finish = step.finish
    for key, script in enumerate(scripts):
        whole = script[:-1]
        if told[key].finish == "cancelled":
            assert key in leaving
            assert told[key].tokens == whole[: len(told[key].tokens)]
        else:
            assert (told[key].tokens, told[key].finish) == (whole, "stop")
