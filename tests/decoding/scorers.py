"""Scorers with scores from a table, for tests of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from auris.decoding.scoring import Scores, State, Tokens, TokenScorer


class TableScorer:
    """Scores a token by the token before it; the state is the text so far.

    Args:
        table: scores of (token before or -1, token); others score 0.
        ends: scores of the last token of a text, -1 for the empty text.
    """

    def __init__(
        self, table: Mapping[tuple[int, int], float], ends: Mapping[int, float] | None = None
    ) -> None:
        self._table = table
        self._ends = ends or {}

    def start(self) -> State:
        return ()

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, tuple)
        before = state[-1] if state else -1
        return [(self._table.get((before, token), 0.0), (*state, token)) for token in tokens]

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        ((score, after),) = self.extend(state, [token], [margin])
        return score, after

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        rows = [
            [self.follow(state, token, 0.0)[0] for token in own]
            for state, own in zip(states, tokens.tolist(), strict=True)
        ]
        return np.array(rows)

    def may_add(self, state: State) -> bool:
        return True

    def affected(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> Sequence[int]:
        return range(len(tokens))

    def without_locations(self) -> TableScorer:
        return self

    def end(self, state: State) -> float:
        assert isinstance(state, tuple)
        return self._ends.get(state[-1] if state else -1, 0.0)


def state_after(scorer: TokenScorer, tokens: Sequence[int]) -> State:
    """The state after some tokens."""
    state = scorer.start()
    for token in tokens:
        ((_, state),) = scorer.extend(state, [token], [0.0])
    return state
