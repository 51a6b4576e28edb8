"""CTC prefix scores: how well a beginning of a text fits the frames, by a CTC head.

Source: Watanabe, Hori, Kim, Hershey and Hayashi, "Hybrid CTC/attention architecture for end-to-end
speech recognition" (2017), section II-D. The recursions over frames are sums of a series, computed
at once with accumulated logarithms. The tokens that may come next are scored by a product of
probabilities, relative to that of the text so far.
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
        scores: of the units that may come next, as far as they were needed.
    """

    def __init__(self, scorer: CtcPrefixScorer, before: Scores, last: int, logprob: float) -> None:
        self._scorer = scorer
        self._before = before
        self.last = last
        self.logprob = logprob
        self.scores: dict[int, float] = {}

    @cached_property
    def in_unit(self) -> Scores:
        """Log-probabilities of the paths that end in the last unit, [N + 1]."""
        if self.last < 0:
            return np.full_like(self._before, -np.inf)
        return _series(self._before, self._scorer.stays(self.last))

    @cached_property
    def in_blank(self) -> Scores:
        """Log-probabilities of the paths that end in a blank, [N + 1]."""
        if self.last < 0:
            return self._before
        return _series(self.in_unit, self._scorer.stays(self._scorer.blank))

    @cached_property
    def either(self) -> Scores:
        """Log-probabilities of all paths, [N + 1]."""
        return np.logaddexp(self.in_unit, self.in_blank)

    @cached_property
    def after_any(self) -> Scores:
        """What `entering` gives for a unit other than the last one."""
        return self._entering(self.either)

    @property
    def after_blank(self) -> Scores:
        """What `entering` gives for the last unit, which needs a blank between."""
        return self._entering(self.in_blank)

    def _entering(self, paths: Scores) -> Scores:
        """Probabilities of the paths that a unit may continue in each frame, relative to all paths
        that begin with the prefix, [N]."""
        return np.exp(paths[:-1] - self.logprob)


def _series(before: Scores, stay: Scores) -> Scores:
    """Log-probabilities of paths that enter a class from others and stay in it, [N + 1].

    Args:
        before: of the paths from which the class may be entered, [N + 1].
        stay: of the class in all frames up to each, [N + 1].
    """
    paths = np.empty_like(before)
    paths[0] = -np.inf
    np.logaddexp.accumulate(before[:-1] - stay[:-1], out=paths[1:])
    paths += stay
    return paths


class CtcPrefixScorer:
    """Scores tokens by a CTC head, see `auris.decoding.scoring.TokenScorer`.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type.
        blank: class index of the blank.
    """

    def __init__(self, logits: Tensor, blank: int) -> None:
        logprobs = logits.float().log_softmax(-1).cpu()
        self.blank = blank
        self._logprobs = logprobs.numpy()
        # In float32, since a vocabulary may be large. One row a class.
        self._probabilities = logprobs.T.exp().contiguous().numpy()
        self._stays: dict[int, Scores] = {}

    def stays(self, unit: int) -> Scores:
        """Log-probabilities of a class in all frames up to each, [N + 1]."""
        known = self._stays.get(unit)
        if known is None:
            logprobs = self._logprobs[:, unit].astype(np.float64)
            known = np.concatenate(([0.0], np.cumsum(logprobs)))
            self._stays[unit] = known
        return known

    def start(self) -> State:
        return _PrefixPaths(self, self.stays(self.blank), -1, 0.0)

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _PrefixPaths)
        return [
            (score, self._following(state, token, score))
            for token, score in zip(tokens, self.most(state, tokens), strict=True)
        ]

    def most(self, state: State, tokens: Sequence[int]) -> list[float]:
        assert isinstance(state, _PrefixPaths)
        known = state.scores
        if missing := [token for token in tokens if token not in known]:
            known.update(zip(missing, self._scores(state, missing), strict=True))
        return [known[token] for token in tokens]

    def _scores(self, state: _PrefixPaths, tokens: list[int]) -> list[float]:
        """What `extend` adds for tokens."""
        units = self._probabilities[tokens]
        probabilities = (units * state.after_any).sum(1)
        if state.last in tokens:
            index = tokens.index(state.last)
            probabilities[index] = (units[index] * state.after_blank).sum()
        with np.errstate(divide="ignore"):
            scores: list[float] = np.maximum(np.log(probabilities), LEAST_SCORE).tolist()
        return scores

    def _following(self, state: _PrefixPaths, token: int, score: float) -> _PrefixPaths:
        before = state.in_blank if token == state.last else state.either
        return _PrefixPaths(self, before, token, state.logprob + score)

    def end(self, state: State) -> float:
        assert isinstance(state, _PrefixPaths)
        return max(float(state.either[-1]) - state.logprob, LEAST_SCORE)
