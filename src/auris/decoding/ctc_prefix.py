"""CTC prefix scores: how well a beginning of a text fits the frames, by a CTC head.

Source: Watanabe, Hori, Kim, Hershey and Hayashi, "Hybrid CTC/attention architecture for end-to-end
speech recognition" (2017), section II-D. The recursions over frames are sums of a series, computed
at once with accumulated logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auris.decoding.scoring import State

LEAST_SCORE = -30.0
"""Least score of a token; a text that needs more frames than there are is impossible."""

Scores = NDArray[np.float64]


class _PrefixPaths:
    """The paths of a prefix over the first t frames, for t from 0 to N.

    Attributes:
        logprob: of all paths whose units begin with the prefix.
        last: the last unit, -1 of the empty prefix.
    """

    def __init__(self, scorer: CtcPrefixScorer, before: Scores, last: int, logprob: float) -> None:
        self._scorer = scorer
        self._before = before
        self.last = last
        self.logprob = logprob

    @cached_property
    def in_unit(self) -> Scores:
        """Log-probabilities of the paths that end in the last unit, [N + 1]."""
        if self.last < 0:
            return np.full_like(self._before, -np.inf)
        return _series(self._before, self._scorer.logprobs_of(self.last))

    @cached_property
    def in_blank(self) -> Scores:
        """Log-probabilities of the paths that end in a blank, [N + 1]."""
        if self.last < 0:
            return self._before
        return _series(self.in_unit, self._scorer.blanks)

    @cached_property
    def either(self) -> Scores:
        """Log-probabilities of all paths, [N + 1]."""
        return np.logaddexp(self.in_unit, self.in_blank)


def _series(before: Scores, logprobs: Scores) -> Scores:
    """Log-probabilities of paths that enter a class from others and stay in it, [N + 1].

    Args:
        before: of the paths from which the class may be entered, [N + 1].
        logprobs: of the class, [N].
    """
    stay = np.concatenate(([0.0], np.cumsum(logprobs)))
    entered = np.logaddexp.accumulate(before[:-1] - stay[:-1])
    return np.concatenate(([-np.inf], entered)) + stay


class CtcPrefixScorer:
    """Scores tokens by a CTC head, see `auris.decoding.scoring.TokenScorer`.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type.
        blank: class index of the blank.
    """

    def __init__(self, logits: Tensor, blank: int) -> None:
        self._logprobs = logits.float().log_softmax(-1).cpu().numpy()
        self.blanks = self.logprobs_of(blank)

    def logprobs_of(self, unit: int) -> Scores:
        """Natural-log probabilities of a class, [N]."""
        return self._logprobs[:, unit].astype(np.float64)

    def start(self) -> State:
        return _PrefixPaths(self, np.concatenate(([0.0], np.cumsum(self.blanks))), -1, 0.0)

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _PrefixPaths)
        if not tokens:
            return []
        units = self._logprobs[:, tokens].astype(np.float64).T
        paths = state.either[:-1] + units
        if state.last in tokens:
            # A unit that follows itself needs a blank between.
            index = tokens.index(state.last)
            paths[index] = state.in_blank[:-1] + units[index]
        logprobs = np.logaddexp.reduce(paths, axis=1, initial=-np.inf)
        extended: list[tuple[float, State]] = []
        for token, logprob in zip(tokens, logprobs.tolist(), strict=True):
            before = state.in_blank if token == state.last else state.either
            score = max(logprob - state.logprob, LEAST_SCORE) if logprob > -np.inf else LEAST_SCORE
            extended.append((score, _PrefixPaths(self, before, token, state.logprob + score)))
        return extended

    def end(self, state: State) -> float:
        assert isinstance(state, _PrefixPaths)
        return max(float(state.either[-1]) - state.logprob, LEAST_SCORE)
