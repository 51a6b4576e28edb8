"""The rules of texts on the device are those of the decode loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.backends.base import Choice, TextRules, TextStart
from auris.backends.static_state import TextTable, results_of
from auris.decoding.loop import DecodeRow
from auris.decoding.requests import Request
from auris.decoding.sampling import ids_logprob
from auris.decoding.static_rows import LOOPS

VOCAB, STOPS = 9, (0, 7)
CPU = torch.device("cpu")

units = st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.integers(1, 90))
texts = st.lists(units, min_size=1, max_size=3).map(
    lambda repeated: [token for unit, times in repeated for token in unit * times][:150]
)
ends = st.lists(st.sampled_from([0, 7, 5]), max_size=1)


def scores_of(token: int, seed: int) -> torch.Tensor:
    scores = torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))
    scores[token] = 5.0
    return scores


@settings(max_examples=60, deadline=None)
@given(
    scripts=st.lists(st.tuples(texts, ends), min_size=1, max_size=3),
    budgets=st.lists(st.integers(1, 160), min_size=3, max_size=3),
    begun=st.integers(1, 80),
)
def test_texts_end_where_the_loop_ends_them(
    scripts: list[tuple[list[int], list[int]]], budgets: list[int], begun: int
) -> None:
    """Texts that continue behind different numbers of tokens, whatever they repeat."""
    table = TextTable(4, TextRules(STOPS, LOOPS), CPU)
    rows: list[DecodeRow] = []
    waiting: list[list[int]] = []
    for slot, ((text, end), budget) in enumerate(zip(scripts, budgets, strict=False)):
        row = DecodeRow(Request(slot, [1], budget), None)
        rest = [*text, *end, 0]
        for token in rest[: min(begun, len(text), budget)]:
            step = row.record(None, Choice(token, 0.0, 0.0), STOPS, 0.0, False)
            if step.finish is not None:
                return
        rows.append(row)
        waiting.append(rest[row.tokens :])
        table.begin([slot], [100], [TextStart(tuple(row.repetition.ids), budget, (2, 3))])
    over = [False] * len(rows)
    for number in range(max(map(len, waiting))):
        tokens = [ids[number] if number < len(ids) else 0 for ids in waiting]
        scores = torch.stack([scores_of(token, number) for token in tokens])
        results = results_of(table.choose(scores))
        for slot, (row, result) in enumerate(zip(rows, results, strict=True)):
            assert (result is None) == over[slot]
            if result is None:
                continue
            choice = Choice(tokens[slot], result.choice.logprob, result.choice.margin)
            step = row.record(None, choice, STOPS, 0.0, False)
            assert (result.choice.token, result.finish) == (tokens[slot], step.finish)
            expected = ids_logprob(scores[slot], (2, 3))
            assert result.probe_logprob == pytest.approx(expected, abs=1e-5)
            over[slot] = step.finish is not None
    assert all(over)


def test_results_of_slots_without_a_text_are_none() -> None:
    table = TextTable(2, TextRules((), LOOPS), CPU)
    table.begin([1], [5], [TextStart((3,), 9)])
    first, second = results_of(table.choose(torch.zeros(2, VOCAB)))
    assert first is None
    assert second is not None
    assert table.lengths.tolist() == [0, 6]


def test_a_text_can_be_moved_to_another_slot() -> None:
    table = TextTable(2, TextRules((), LOOPS), CPU)
    table.begin([1], [5], [TextStart((3, 4), 2)])
    table.move(1, 0)
    first, second = results_of(table.choose(torch.eye(VOCAB)[[6, 6]]))
    assert second is None
    assert first is not None
    assert (first.choice.token, first.finish) == (6, "length")
