"""Bookkeeping of the cache: rows, positions, growth and refused operations."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.config import DecoderConfig
from auris.models import pages
from auris.models.cache import KVCache

CONFIG = DecoderConfig(
    vocab=8, hidden=4, layers=2, heads=2, kv_heads=1, head_dim=2, ffn=4, rope_theta=1e4
)


def new(rows: int = 3, capacity: int = 4, dtype: torch.dtype = torch.float32) -> KVCache:
    return KVCache(CONFIG, rows, capacity, dtype, torch.device("cpu"))


def write(cache: KVCache, rows: range, values: list[list[float]]) -> None:
    """Append values[i] to rows[i] in every layer, one number for each position."""
    counts = [len(row) for row in values]
    step = cache.rows(rows, counts)
    packed = torch.tensor([value for row in values for value in row])
    for layer in range(CONFIG.layers):
        new = (packed + 100 * layer)[None, None, :, None].expand(1, 1, -1, 2).to(cache.keys.dtype)
        queries = torch.zeros(1, CONFIG.heads, len(packed), 2, dtype=new.dtype)
        step.attend(layer, queries, new, -new)
    step.commit()


def held(cache: KVCache, row: int, layer: int = 1) -> list[float]:
    """The content that `write` stored."""
    keys = cache.keys[layer, row, 0, : cache.lengths[row]]
    values = cache.values[layer, row, 0, : cache.lengths[row]]
    assert torch.equal(keys, -values)
    assert torch.equal(keys[:, 0], keys[:, 1])
    return (keys[:, 0] - 100 * layer).tolist()


def test_rows_start_empty_and_are_counted() -> None:
    cache = new()
    assert (cache.room, cache.capacity, cache.lengths) == (3, 4, [])
    assert cache.admit(2) == range(2)
    assert cache.admit() == range(2, 3)
    assert (cache.room, cache.lengths) == (0, [0, 0, 0])


def test_storage_grows_with_the_active_rows() -> None:
    cache = new(rows=5)
    sizes = []
    for row in range(5):
        cache.admit()
        write(cache, range(row, row + 1), [[float(row), 10.0 + row]])
        sizes.append(cache.keys.shape[1])
    assert sizes == [1, 2, 4, 4, 5]
    assert [held(cache, row) for row in range(5)] == [[row, 10.0 + row] for row in range(5)]


def test_too_many_rows_are_refused_without_a_change() -> None:
    cache = new()
    cache.admit(2)
    with pytest.raises(ValueError, match="room for 1 more rows, not for 2"):
        cache.admit(2)
    assert cache.lengths == [0, 0]


@pytest.mark.parametrize("row", [-1, 2, 7])
def test_only_active_rows_can_be_dropped(row: int) -> None:
    cache = new()
    cache.admit(2)
    write(cache, range(2), [[1.0], [2.0]])
    with pytest.raises(ValueError, match="not among the 2 in use"):
        cache.drop(row)
    assert [held(cache, 0), held(cache, 1)] == [[1.0], [2.0]]


@pytest.mark.parametrize("length", [-1, 3])
def test_a_row_is_not_truncated_beyond_its_ends(length: int) -> None:
    cache = new()
    cache.admit()
    write(cache, range(1), [[1.0, 2.0]])
    with pytest.raises(ValueError, match=f"row 0 holds 2 positions, not {length}"):
        cache.truncate(0, length)


def test_reserve_keeps_the_content_and_never_shrinks() -> None:
    cache = new()
    cache.admit(2)
    write(cache, range(2), [[1.0, 2.0], [3.0]])
    cache.reserve(2)
    assert cache.capacity == 4
    cache.reserve(9)
    assert cache.capacity == 9
    assert [held(cache, 0), held(cache, 1)] == [[1.0, 2.0], [3.0]]


def test_a_cache_that_has_no_room_to_grow_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = new()
    cache.admit()
    write(cache, range(1), [[1.0, 2.0]])
    zeros, room = pages.zeros, iter([True, False])

    def some_zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        if not next(room):
            raise torch.OutOfMemoryError("out of memory")
        return zeros(shape, dtype, device)

    with monkeypatch.context() as full:
        full.setattr(pages, "zeros", some_zeros)
        with pytest.raises(torch.OutOfMemoryError):
            cache.reserve(9)
    assert cache.keys.stride() == cache.values.stride()
    assert (cache.capacity, held(cache, 0)) == (4, [1.0, 2.0])


def test_growing_token_by_token_copies_rarely() -> None:
    cache = new(rows=1, capacity=1)
    cache.admit()
    storages = set()
    for number in range(300):
        write(cache, range(1), [[float(number)]])
        storages.add(cache.keys.data_ptr())
    assert held(cache, 0) == [float(number) for number in range(300)]
    assert len(storages) < 25


def test_the_storage_never_has_nan() -> None:
    """A masked key is multiplied by zero, and zero times NaN would be NaN."""
    cache = new()
    cache.admit(3)
    write(cache, range(3), [[1.0], [2.0, 3.0, 4.0], [5.0]])
    write(cache, range(3), [[1.0] * 9, [2.0], [5.0]])
    assert not cache.keys.isnan().any()
    assert not cache.values.isnan().any()


operations = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 2), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("write"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("truncate"), st.integers(0, 3), st.integers(0, 6)),
        st.tuples(st.just("reserve"), st.integers(0, 20), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(operations)
def test_the_cache_behaves_like_a_list_of_lists(operations: list[tuple[str, int, int]]) -> None:
    """Any order of calls has the result of the same calls on lists."""
    cache = new(rows=4, capacity=1)
    rows: list[list[float]] = []
    clock = 0.0
    for name, first, second in operations:
        if name == "admit" and first <= 4 - len(rows):
            cache.admit(first)
            rows.extend([] for _ in range(first))
        elif name == "drop" and first < len(rows):
            cache.drop(first)
            last = rows.pop()
            if first < len(rows):
                rows[first] = last
        elif name == "write" and first < len(rows):
            # Rows first.. in one pass, each with another number of new positions.
            added = []
            for index in range(first, len(rows)):
                added.append([clock + step for step in range(1 + (second + index) % 4)])
                clock += 10
                rows[index].extend(added[-1])
            write(cache, range(first, len(rows)), added)
        elif name == "truncate" and first < len(rows):
            length = min(second, len(rows[first]))
            cache.truncate(first, length)
            del rows[first][length:]
        elif name == "reserve":
            cache.reserve(first)
        assert cache.lengths == [len(row) for row in rows]
        assert [held(cache, row) for row in range(len(rows))] == rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(common=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_row_takes_over_the_end_of_another(dtype: torch.dtype, common: list[int]) -> None:
    cache = new(rows=2, capacity=4, dtype=dtype)
    cache.admit(2)
    prompt = [float(value) for value in common]
    write(cache, range(2), [[*prompt, 7.0], [*prompt, 8.0, 9.0]])
    cache.copy_tail(0, 1, len(prompt))
    assert held(cache, 0) == held(cache, 1) == [*prompt, 7.0]
    write(cache, range(1, 2), [[5.0]])
    assert (held(cache, 0), held(cache, 1)) == ([*prompt, 7.0], [*prompt, 7.0, 5.0])
    cache.copy_tail(1, 0, 0)
    assert held(cache, 0) == [*prompt, 7.0, 5.0]
