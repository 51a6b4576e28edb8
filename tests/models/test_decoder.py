"""The logits of a row depend on its own tokens and on nothing else."""

from __future__ import annotations

from functools import cache
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends.torch import TorchBackend
from auris.models.attention import Kernel
from auris.models.cache import KVCache
from auris.models.qwen_asr import QwenAsr
from tests.ties import LOGITS
from tests.tiny_models import qwen_config, tiny_model

KERNELS = get_args(Kernel)
SHAPES = {"tied": {}, "untied, grouped": {"tied": False, "kv_heads": 1, "hidden": 40}}


@cache
def model(shape: str) -> QwenAsr:
    built = tiny_model(qwen_config(**SHAPES[shape]), seed=3)
    assert isinstance(built, QwenAsr)
    return built


@cache
def backend(shape: str = "tied", kernel: Kernel = "auto") -> TorchBackend:
    return TorchBackend(model(shape), kernel)


@cache
def alone(ids: tuple[int, ...], shape: str) -> Tensor:
    """Logits after every token of one row in one pass, with which all other passes must agree."""
    runner = backend(shape, "math")
    memory = runner.new_cache(1, len(ids))
    runner.admit(memory)
    return runner.extend(memory, [list(ids)], positions="all")[0]


def some_ids(seed: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (count,), generator=generator).tolist()


def agree(ours: Tensor, theirs: Tensor, what: str) -> None:
    worst = float((ours - theirs).abs().max())
    assert worst < LOGITS, f"{what}: logits differ by {worst:.2g}"


def test_the_logits_are_worth_comparing() -> None:
    """The comparisons below would pass for constant logits."""
    logits = alone(tuple(some_ids(0, 12)), "tied")
    assert float(logits.std()) > 0.5
    assert len(set(logits.argmax(-1).tolist())) > 6
    other = alone((some_ids(0, 12)[0] ^ 1, *some_ids(0, 12)[1:]), "tied")
    assert float((logits[-1] - other[-1]).abs().max()) > 100 * LOGITS


steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "extend", "extend", "extend", "truncate", "drop", "reserve"]),
        st.integers(0, 1000),
        st.lists(st.integers(1, 7), min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.no_cover
@pytest.mark.parametrize("shape", list(SHAPES))
@settings(max_examples=100)
@given(steps=steps, kernel=st.sampled_from(KERNELS))
def test_logits_do_not_depend_on_the_history_of_the_batch(
    shape: str, kernel: Kernel, steps: list[tuple[str, int, list[int]]]
) -> None:
    """Rows are added, extended, rolled back, dropped and moved in any order."""
    runner = backend(shape, kernel)
    memory = runner.new_cache(4, 3)
    runner.admit(memory, 2)
    rows: list[list[int]] = [[], []]
    for name, seed, widths in [("extend", 1, [3, 5, 1, 1]), *steps]:
        if name == "admit" and len(rows) < 4:
            assert runner.admit(memory) == range(len(rows), len(rows) + 1)
            rows.append([])
        elif name == "truncate" and rows:
            row = seed % len(rows)
            keep = seed % (len(rows[row]) + 1)
            runner.truncate(memory, row, keep)
            del rows[row][keep:]
        elif name == "drop" and rows:
            row = seed % len(rows)
            runner.drop(memory, row)
            last = rows.pop()
            if row < len(rows):
                rows[row] = last
        elif name == "reserve":
            memory.reserve(seed % 40)
        elif name == "extend" and rows:
            first = seed % len(rows)
            group = range(first, len(rows)) if seed % 3 else range(len(rows))
            # Equal widths use another path (without a mask) than unequal ones.
            counts = [widths[0] if seed % 2 else widths[row] for row in group]
            given_ids = [
                some_ids(seed + row, count) for row, count in zip(group, counts, strict=True)
            ]
            whole = runner.extend(
                memory, given_ids, None if len(group) == len(rows) else group, "all"
            )
            assert whole.shape == (len(group), max(counts), model(shape).config.decoder.vocab)
            for index, row in enumerate(group):
                rows[row].extend(given_ids[index])
                wanted = alone(tuple(rows[row]), shape)[-counts[index] :]
                agree(whole[index, : counts[index]], wanted, f"{kernel}, row {row} after {name}")
        assert list(memory.lengths) == [len(row) for row in rows]


@pytest.mark.parametrize("kernel", KERNELS)
def test_logits_do_not_depend_on_how_passes_are_divided(kernel: Kernel) -> None:
    ids = some_ids(5, 30)
    wanted = alone(tuple(ids), "tied")
    runner = backend("tied", kernel)
    for cuts in ([30], [1] * 30, [7, 1, 1, 13, 8], [29, 1], [1, 29]):
        memory = runner.new_cache(1, 30)
        runner.admit(memory)
        got, place = [], 0
        for width in cuts:
            got.append(runner.extend(memory, [ids[place : place + width]], positions="all")[0])
            place += width
        agree(torch.cat(got), wanted, f"{kernel}, cuts {cuts}")


def test_only_last_positions_equal_those_of_all_positions() -> None:
    rows = [some_ids(1, 9), some_ids(2, 3), some_ids(3, 1)]
    results = []
    for positions in ("last", "all"):
        memory = backend().new_cache(3, 9)
        backend().admit(memory, 3)
        results.append(backend().extend(memory, rows, positions=positions))
    last, every = results
    assert last.shape[1] == 1
    for row, ids in enumerate(rows):
        agree(last[row, 0], every[row, len(ids) - 1], f"row {row}")


def test_embeddings_and_ids_can_be_in_one_pass() -> None:
    ids = [some_ids(1, 6), some_ids(2, 4)]
    memory = backend().new_cache(2, 6)
    backend().admit(memory, 2)
    logits = backend().extend(memory, [backend().embed(ids[0], None), ids[1]], positions="all")
    for row in range(2):
        agree(logits[row, : len(ids[row])], alone(tuple(ids[row]), "tied"), f"row {row}")


def test_truncated_positions_have_no_effect() -> None:
    runner = backend()
    memory = runner.new_cache(1, 40)
    runner.admit(memory)
    start, detour, end = some_ids(1, 8), some_ids(2, 20), some_ids(3, 5)
    runner.extend(memory, [start])
    runner.extend(memory, [detour])
    runner.truncate(memory, 0, len(start))
    logits = runner.extend(memory, [end], positions="all")[0]
    agree(logits, alone((*start, *end), "tied")[len(start) :], "after a rollback")


def test_logits_do_not_depend_on_a_loud_row_in_the_batch() -> None:
    ids = some_ids(4, 10)
    quiet = backend().embed(ids, None)
    for loud in (quiet * 1e4, torch.full_like(quiet, 6e4)):
        memory = backend().new_cache(2, 10)
        backend().admit(memory, 2)
        logits = backend().extend(memory, [loud, quiet], positions="all")
        agree(logits[1], alone(tuple(ids), "tied"), "beside a loud row")


@pytest.mark.parametrize(
    ("inputs", "rows"), [([[1]], None), ([[1], []], None), ([], None), ([[1], [2]], range(1))]
)
def test_a_pass_needs_one_input_for_each_row(inputs: list[list[int]], rows: range | None) -> None:
    memory = backend().new_cache(2, 4)
    backend().admit(memory, 2)
    with pytest.raises(ValueError, match="need as many inputs"):
        backend().extend(memory, inputs, rows)
    assert list(memory.lengths) == [0, 0]


def test_numbers_of_slots_and_states_must_match() -> None:
    slot = model("tied").config.audio_token_id
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="2 audio slots for 3 states"):
        backend().embed([1, slot, slot, 2], states)
    with pytest.raises(ValueError, match="1 audio slots for 0 states"):
        backend().embed([slot], None)
    filled = backend().embed([1, slot, slot, slot, 2], states)
    plain = backend().embed([1, 2], None)
    assert torch.equal(filled[[0, 4]], plain)
    agree(filled[1:4], model("tied").projector(states).detach(), "projected states")


def test_the_model_has_no_state() -> None:
    """All state is in the cache: two caches of one model are independent."""
    before = set(dict(model("tied").named_buffers())), vars(model("tied").decoder).keys()
    first, second = (backend().new_cache(1, 20) for _ in range(2))
    for memory in (first, second):
        assert isinstance(memory, KVCache)
        backend().admit(memory)
    backend().extend(first, [some_ids(1, 9)])
    logits = backend().extend(second, [some_ids(2, 9)], positions="all")[0]
    agree(logits, alone(tuple(some_ids(2, 9)), "tied"), "second cache")
    assert (set(dict(model("tied").named_buffers())), vars(model("tied").decoder).keys()) == before
