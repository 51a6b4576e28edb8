"""Scorers together: weighted sums, and scorers that begin after a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from auris.decoding.scoring import (
    MISSING,
    ScorerAfter,
    Scores,
    State,
    Tokens,
    WeightedScorer,
    text_score,
)
from tests.decoding.scorers import TableScorer, state_after

ONE = TableScorer({(-1, 1): 0.5, (1, 2): 2.0, (2, 9): -1.0}, {2: 4.0})
OTHER = TableScorer({(-1, 1): 1.0, (1, 3): 8.0}, {-1: -2.0})


@pytest.mark.parametrize("text", [(), (1,), (1, 2), (1, 3, 2), (2, 9, 1)])
def test_a_weighted_sum_is_the_sum_of_its_parts(text: tuple[int, ...]) -> None:
    both = WeightedScorer([(ONE, 0.5), (OTHER, 3.0)])
    expected = 0.5 * text_score(ONE, text) + 3.0 * text_score(OTHER, text)
    assert text_score(both, text) == pytest.approx(expected)


def test_candidates_are_scored_together_as_alone() -> None:
    both = WeightedScorer([(ONE, 1.0), (OTHER, 1.0)])
    ((_, state),) = both.extend(both.start(), [1], [0.0])
    together = both.extend(state, [1, 2, 3], [0.0, -1.0, -2.0])
    alone = [both.extend(state, [token], [-float(n)])[0] for n, token in enumerate((1, 2, 3))]
    assert together == alone
    assert [score for score, _ in together] == [0.0, 2.0, 8.0]


def test_one_candidate_is_scored_as_among_others() -> None:
    later = ScorerAfter(WeightedScorer([(ONE, 0.5), (OTHER, 3.0)]), 7, [(1,)])
    for text in ([], [1], [1, 7], [1, 7, 1], [2]):
        state = state_after(later, text)
        together = later.extend(state, [1, 2, 3, 7], [0.0, -1.0, -2.0, -3.0])
        margins = {1: 0.0, 2: -1.0, 3: -2.0, 7: -3.0}
        assert together == [later.follow(state, *one) for one in margins.items()]


def test_the_most_that_is_added_to_texts_together_is_that_of_each_alone() -> None:
    later = ScorerAfter(WeightedScorer([(ONE, 0.5), (OTHER, 3.0)]), 7)
    states = [state_after(later, text) for text in ([7, 1], [1], [7], [7, 2])]
    tokens = np.array([[1, 2], [2, 1], [3, 1], [9, 1]])
    most = later.most(states, tokens).tolist()
    assert most == [
        later.most([state], own[None])[0].tolist()
        for state, own in zip(states, tokens, strict=True)
    ]
    assert most == [[0.0, 1.0], [0.0, 0.0], [0.0, 3.25], [-0.5, 0.0]]


class _Unbounded(TableScorer):
    """A scorer that knows no bound."""

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        return np.full(tokens.shape, np.inf)


def test_a_part_without_weight_adds_nothing_even_if_it_has_no_bound() -> None:
    scorer = WeightedScorer([(_Unbounded({}), 0.0), (TableScorer({(-1, 4): 2.0}), 0.5)])
    assert scorer.most([scorer.start()], np.array([[4]])).tolist() == [[1.0]]


def test_a_scorer_begins_after_its_token() -> None:
    later = ScorerAfter(ONE, 7)
    assert text_score(later, (1, 2, 2)) == 0.0
    assert text_score(later, (1, 2, 7)) == text_score(ONE, ())
    assert text_score(later, (1, 7, 1, 2)) == text_score(ONE, (1, 2))
    # Only the first one; a second one is a token of the text.
    assert text_score(later, (7, 1, 7, 2)) == text_score(ONE, (1, 7, 2))


def test_a_text_without_the_token_is_all_but_impossible_where_it_is_expected() -> None:
    later = ScorerAfter(ONE, 7, [(1, 2), (3,)])
    assert text_score(later, (1, 2, 7, 1, 2)) == text_score(ONE, (1, 2))
    assert text_score(later, (3, 7, 1)) == text_score(ONE, (1,))
    for text in ((), (1,), (2, 2, 2), (1, 1, 3), (3, 1)):
        assert text_score(later, text) == MISSING
    assert text_score(later, (2, 7, 1)) == MISSING + text_score(ONE, (1,))
