"""Rows of a slot cache stay where they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auris.models.slots import FIRST_SPAN, SlotCache, span_for, width_for
from tests.models.test_cache import CONFIG, write


def new(rows: int = 9, slots: int = 2, capacity: int = 4) -> SlotCache:
    return SlotCache(CONFIG, rows, slots, capacity, torch.float32, torch.device("cpu"))


def content(cache: SlotCache, row: int) -> list[float]:
    """What `write` stored in the first layer."""
    return cache.keys[0, cache.storage_index(row), 0, : cache.lengths[row], 0].tolist()


@pytest.mark.parametrize(("slots", "width"), [(0, 1), (1, 1), (2, 2), (3, 4), (8, 8), (65, 128)])
def test_widths_are_powers_of_two(slots: int, width: int) -> None:
    assert width_for(slots) == width


def test_spans_double() -> None:
    assert span_for(1) == span_for(FIRST_SPAN) == FIRST_SPAN
    assert span_for(FIRST_SPAN + 1) == 2 * FIRST_SPAN


def test_dropping_a_row_moves_nothing() -> None:
    cache = new(slots=4)
    cache.admit(3)
    write(cache, range(3), [[1.0], [2.0, 3.0], [4.0, 5.0, 6.0]])
    before, address = cache.keys.clone(), cache.keys.data_ptr()
    cache.drop(0)
    assert (cache.slots, cache.lengths) == ([2, 1], [3, 2])
    assert content(cache, 0) == [4.0, 5.0, 6.0]
    assert torch.equal(cache.keys, before)
    assert cache.keys.data_ptr() == address


def test_a_new_row_takes_the_lowest_free_slot() -> None:
    cache = new(slots=4)
    cache.admit(4)
    cache.drop(1)
    cache.drop(0)
    cache.admit(2)
    assert sorted(cache.slots) == [0, 1, 2, 3]
    assert cache.slots[2:] == [0, 1]
    assert cache.moves == 0


def test_growth_moves_the_storage_and_is_counted() -> None:
    cache = new(slots=2)
    cache.admit(2)
    write(cache, range(2), [[1.0, 2.0], [3.0]])
    cache.admit()
    assert (cache.width, cache.moves) == (4, 1)
    cache.reserve(FIRST_SPAN)
    assert cache.moves == 1
    cache.reserve(FIRST_SPAN + 1)
    assert (cache.capacity, cache.moves) == (2 * FIRST_SPAN, 2)
    assert [content(cache, row) for row in range(3)] == [[1.0, 2.0], [3.0], []]


@pytest.mark.parametrize("row", [-1, 2])
def test_only_rows_in_use_can_be_dropped(row: int) -> None:
    cache = new()
    cache.admit(2)
    with pytest.raises(ValueError, match="not among the 2 in use"):
        cache.drop(row)


@given(st.lists(st.tuples(st.sampled_from(["admit", "drop", "write", "move"]), st.integers(0, 8))))
def test_rows_hold_what_was_written(operations: list[tuple[str, int]]) -> None:
    cache, expected, number = new(), [], 0.0
    for name, choice in operations:
        rows = len(expected)
        if name == "admit" and rows < 9:
            cache.admit()
            expected.append([])
        elif name == "drop" and rows:
            cache.drop(choice % rows)
            last = expected.pop()
            if choice % rows < len(expected):
                expected[choice % rows] = last
        elif name == "write" and rows:
            row, number = choice % rows, number + 1.0
            write(cache, range(row, row + 1), [[number, -number]])
            expected[row] += [number, -number]
        elif name == "move" and rows:
            free = sorted(set(range(cache.width)) - set(cache.slots))
            if free:
                cache.move_row(choice % rows, free[0])
        assert len(set(cache.slots)) == len(cache.slots) == len(expected)
    assert [content(cache, row) for row in range(len(expected))] == expected
