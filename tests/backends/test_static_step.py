"""The static step decodes as the dynamic one does, whatever is admitted when, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends.base import TextRules, TextStart
from auris.backends.static_state import TextTable
from auris.backends.static_step import PlainPasses, Shape, SlotStep, StaticSteps
from auris.backends.torch import TorchBackend
from auris.checkpoints.quantization_config import Quantization
from auris.decoding.loop import DecodeLoop, decode
from auris.decoding.requests import Request, Step, never
from auris.decoding.sampling import Probe, Sampling
from auris.errors import UnsupportedOption
from auris.models import slots
from auris.models.qwen_asr import QwenAsr
from auris.models.slots import SlotCache
from tests.backends.captured import RecordedGraph, without_cuda
from tests.backends.static_models import (
    VOCAB,
    set_successors,
    static_backend,
    successor_model,
    text_after,
)
from tests.backends.test_packed_layers import packed_model
from tests.ties import LOGITS, Ties
from tests.tiny_models import qwen_config, tiny_model

STOPS = (0, 1)


@pytest.fixture(params=["plain", "captured"])
def captured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether passes are captured and replayed. Spans are short, so that texts outgrow them."""
    monkeypatch.setattr(slots, "FIRST_SPAN", 8)
    without_cuda(monkeypatch)
    return bool(request.param == "captured")


@dataclass
class Plan:
    """A request, and when it is admitted and cancelled: after so many steps of the loop."""

    prompt: list[int]
    budget: int
    temperature: float
    prefix: tuple[int, ...]
    admitted: int
    cancelled: int | None


@dataclass
class Collected:
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None


ids = st.integers(2, VOCAB - 1)
plans = st.builds(
    Plan,
    prompt=st.lists(ids, min_size=1, max_size=20),
    budget=st.one_of(st.integers(1, 12), st.integers(60, 100)),
    temperature=st.sampled_from([0.0, 0.0, 0.0, 0.01]),
    prefix=st.one_of(st.just(()), st.lists(ids, min_size=1, max_size=4).map(tuple)),
    admitted=st.integers(0, 30),
    cancelled=st.one_of(st.none(), st.none(), st.integers(0, 40)),
)


def run(loop: DecodeLoop, planned: list[Plan]) -> Iterator[Step]:
    """Decode in the order of the plans, as rows are free."""
    now = 0

    def ends(plan: Plan) -> Callable[[], bool]:
        return never if plan.cancelled is None else lambda: now > (plan.cancelled or 0)

    waiting = sorted(enumerate(planned), key=lambda item: item[1].admitted)
    while waiting or loop.active:
        group = []
        while waiting and waiting[0][1].admitted <= now and len(group) < loop.free_rows:
            key, plan = waiting.pop(0)
            sampling, prefixes = Sampling(plan.temperature, key), (plan.prefix,)
            request = Request(
                key,
                plan.prompt,
                plan.budget,
                sampling,
                prefixes if plan.prefix else None,
                probe=Probe(key % 5, (3, 4)),
                cancelled=ends(plan),
            )
            group.append(request)
        if group:
            yield from loop.admit(group)
        yield from loop.step()
        now += 1


successor_tables = st.lists(st.integers(0, VOCAB - 1), min_size=VOCAB, max_size=VOCAB)


def test_texts_do_not_depend_on_admission(captured: bool) -> None:
    model = successor_model()
    backend = static_backend(model, captured)

    @settings(max_examples=6 if captured else 25, deadline=None)
    @given(
        successors=successor_tables,
        planned=st.lists(plans, min_size=1, max_size=9),
        rows=st.sampled_from([1, 3, 6]),
    )
    def check(successors: list[int], planned: list[Plan], rows: int) -> None:
        set_successors(model, successors)
        compare(backend, successors, planned, rows)

    check()


def compare(backend: TorchBackend, successors: list[int], planned: list[Plan], rows: int) -> None:
    """Decode, and compare the texts with those that the successors give."""
    collected = [Collected() for _ in planned]
    for step in run(DecodeLoop(backend, STOPS, rows), planned):
        one = collected[step.key]
        assert one.finish is None, "a step after the end"
        assert (step.probe_logprob is None) or len(one.tokens) == step.key % 5
        if step.token is not None:
            one.tokens.append(step.token)
        one.finish = step.finish
    for plan, one in zip(planned, collected, strict=True):
        given_text = successors, plan.prompt[-1], plan.budget, STOPS, plan.prefix
        tokens, finish = text_after(*given_text)
        if one.finish == "cancelled":
            assert plan.cancelled is not None
            assert one.tokens == tokens[: len(one.tokens)]
        else:
            assert (one.tokens, one.finish) == (tokens, finish)


@cache
def random_model(tied: bool) -> QwenAsr:
    model = tiny_model(qwen_config(tied=tied), seed=4)
    assert isinstance(model, QwenAsr)
    return model


def mixed_requests() -> list[Request]:
    """Requests of different lengths, a few of which are not for the static step."""
    requests = []
    for key in range(14):
        prompt = [(7 * key + 13 * place) % 300 + 5 for place in range(1 + 5 * key % 37)]
        sampling = Sampling(1.0, key) if key == 5 else Sampling()
        prefixes = ((7, 8), (9,), (10, 11, 12)) if key % 4 == 1 else None
        draft = tuple(range(20, 30)) if key == 8 else ()
        requests.append(
            Request(
                key,
                prompt,
                3 + 11 * key % 60,
                sampling,
                prefixes,
                probe=Probe(key % 4, (3, 17)),
                draft=draft,
                beam_size=3 if key == 11 else 1,
            )
        )
    return requests


def steps_of(backend: TorchBackend, rows: int) -> dict[int, list[Step]]:
    steps: dict[int, list[Step]] = {}
    for step in decode(backend, mixed_requests(), {0, 1, 40, 41, 42, 43}, rows):
        steps.setdefault(step.key, []).append(step)
    return steps


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 14])
def test_steps_are_those_of_the_dynamic_path(captured: bool, tied: bool, rows: int) -> None:
    model, ties = random_model(tied), Ties()
    ours = steps_of(static_backend(model, captured), rows)
    theirs = steps_of(TorchBackend(model), rows)
    assert sorted(ours) == sorted(theirs)
    for key, steps in ours.items():
        tokens = [[step.token for step in some] for some in (steps, theirs[key])]
        tokens = [[-1 if token is None else token for token in some] for some in tokens]
        ties.same(tokens[0], tokens[1], [step.margin for step in steps], f"request {key}")
        if tokens[0] != tokens[1]:
            continue
        for one, other in zip(steps, theirs[key], strict=True):
            assert (one.finish, one.prefill) == (other.finish, other.prefill)
            assert one.logprob == pytest.approx(other.logprob, abs=LOGITS)
            assert one.margin == pytest.approx(other.margin, abs=2 * LOGITS)
            assert one.probe_logprob == pytest.approx(other.probe_logprob, abs=LOGITS)
    assert ties.count <= 1


def test_one_shape_is_captured_once(captured: bool) -> None:
    if not captured:
        pytest.skip("nothing is captured")
    backend = static_backend(random_model(True), captured)
    for _ in range(2):
        before = RecordedGraph.made
        steps = list(decode(backend, [Request(0, [5], 60), Request(1, [9], 60)], (), 2))
        assert len(steps) > 60
    assert RecordedGraph.made == before, "the second batch uses the graphs of the first"


class Watched:
    """A runner that writes down when passes begin, and when their results are read."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.addresses: dict[Shape, set[int]] = {}
        self.runner = PlainPasses()

    def run(self, shape: Shape, one_pass: Callable[[], Tensor], table: TextTable) -> Tensor:
        self.events.append("begin")
        self.addresses.setdefault(shape, set()).add(table.tokens.data_ptr())
        return self.runner.run(shape, one_pass, table)

    def forget(self) -> None:
        self.addresses.clear()

    def fetch(self, results: Tensor) -> Callable[[], Tensor]:
        def read() -> Tensor:
            self.events.append("read")
            return copied

        copied = results.clone()
        return read


def watched_backend() -> tuple[TorchBackend, Watched]:
    backend, runner = static_backend(random_model(True)), Watched()
    backend.static = StaticSteps(random_model(True).decoder, "auto", lambda: runner)
    return backend, runner


def test_results_are_read_while_the_next_pass_is_computed() -> None:
    backend, runner = watched_backend()
    steps = list(decode(backend, [Request(0, [5], 4)], (), 1))
    assert [step.token is None for step in steps] == [False] * 4 + [True]
    # The fourth pass decides between "stop" and "length". No pass follows the last possible one.
    assert runner.events == ["begin", *["begin", "read"] * 3, "read"]


def test_a_text_that_is_over_costs_one_pass_at_most() -> None:
    backend, runner = watched_backend()
    (first, *_) = decode(backend, [Request(0, [5], 9)], (), 1)
    runner.events.clear()
    assert first.token is not None
    steps = list(
        decode(
            backend, [Request(0, [5, 6, 7], 9)], range(random_model(True).config.decoder.vocab), 1
        )
    )
    assert [step.finish for step in steps] == ["stop"]
    assert runner.events == []


def test_tensors_of_passes_stay_where_they_are() -> None:
    backend, runner = watched_backend()
    list(decode(backend, mixed_requests(), {0, 1}, 4))
    assert runner.addresses
    assert all(len(addresses) == 1 for addresses in runner.addresses.values())


class WarmedUp(PlainPasses):
    """Runs every pass without active slots first, as before a capture."""

    def __init__(self) -> None:
        self.cache: SlotCache | None = None

    def run(self, shape: Shape, one_pass: Callable[[], Tensor], table: TextTable) -> Tensor:
        assert self.cache is not None
        active = table.active.clone()
        table.active.zero_()
        watched = table.tokens, table.lengths, self.cache.keys[..., :-1, :]
        before = [tensor.clone() for tensor in watched]
        one_pass()
        assert all(map(torch.equal, before, watched))
        table.active.copy_(active)
        return one_pass()


def test_a_pass_without_active_slots_changes_nothing() -> None:
    decoder, runner = random_model(True).decoder, WarmedUp()
    runner.cache = SlotCache(decoder.config, 4, 4, 20, torch.float32, torch.device("cpu"))
    step = SlotStep(decoder, runner.cache, TextRules((0,), (9, 9)), runner)
    rows = runner.cache.admit(3)
    texts = step.begin([(row, TextStart((3, 4 + row, 5), 9)) for row in rows])
    for _ in range(4):
        started = step.launch()
        assert started is not None
        assert len(started.results()) == 3
    for text in texts:
        step.end(text)
    assert runner.cache.lengths == [4, 4, 4]
    assert step.launch() is None


def test_packed_weights_are_refused() -> None:
    model = packed_model(qwen_config(), Quantization("int8"))
    with pytest.raises(UnsupportedOption, match="AURIS_STATIC_STEP"):
        TorchBackend(model, static=True)


def test_short_texts_after_long_ones_use_the_storage_that_grew(captured: bool) -> None:
    model = random_model(True)
    backend, dynamic = static_backend(model, captured), TorchBackend(model)
    for prompt, budget in (([5, 6], 4), ([7] * 30, 20), ([5, 6], 4), ([9, 8], 5)):
        request = Request(0, prompt, budget)
        ours, theirs = (list(decode(one, [request], (), 2)) for one in (backend, dynamic))
        assert [step.token for step in ours] == [step.token for step in theirs]
        for step, other in zip(ours, theirs, strict=True):
            assert step.logprob == pytest.approx(other.logprob, abs=LOGITS)


def test_a_row_has_the_positions_of_the_results_that_were_read() -> None:
    decoder = random_model(True).decoder
    cache = SlotCache(decoder.config, 1, 1, 20, torch.float32, torch.device("cpu"))
    step = SlotStep(decoder, cache, TextRules((), (99,)), PlainPasses())
    cache.admit()
    (text,) = step.begin([(0, TextStart((3,), 9))])
    first = step.launch()
    assert first is not None
    assert step.launch() is not None
    first.results()
    step.end(text)
    assert cache.lengths == [1]
