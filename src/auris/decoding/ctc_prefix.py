"""CTC prefix scores: how well a beginning of a text fits the frames, by a CTC head.

Source: Watanabe, Hori, Kim, Hershey and Hayashi, "Hybrid CTC/attention architecture for end-to-end
speech recognition" (2017), section II-D. The recursions over frames are sums of a series, computed
at once with accumulated logarithms. The tokens that may come next are scored by a product of
probabilities, relative to that of the text so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from auris.decoding.scoring import Scores, State, Tokens

LEAST_SCORE = -30.0
"""Least score of a token; a text that needs more frames than there are is impossible."""

LEAST_PROBABILITY = 1e-14
"""Probabilities below this have the least score."""


class _PrefixPaths:
    """The paths of a prefix over the first t frames, for t from 0 to N.

    Attributes:
        before: log-probabilities of the paths from which the last unit may be entered, [N + 1].
        last: the last unit, -1 of the empty prefix.
        logprob: of all paths whose units begin with the prefix.
        in_blank, either: log-probabilities of the paths that end in a blank, and of all paths,
            [N + 1]; None until they are needed.
        tokens, scores: the units that may come next and were scored last, and their scores.
    """

    __slots__ = ("before", "either", "in_blank", "last", "logprob", "scores", "tokens")

    def __init__(
        self, before: Scores, last: int, logprob: float, either: Scores | None = None
    ) -> None:
        self.before = before
        self.last = last
        self.logprob = logprob
        self.in_blank = None if either is None else before
        self.either = either
        self.tokens: list[int] = []
        self.scores: list[float] = []


def _series(before: Scores, stay: Scores) -> Scores:
    """Log-probabilities of paths that enter a class from others and stay in it, [B, N + 1].

    Args:
        before: of the paths from which the class may be entered, [B, N + 1].
        stay: of the class in all frames up to each, [B or 1, N + 1].
    """
    paths = np.empty_like(before)
    paths[:, 0] = -np.inf
    np.logaddexp.accumulate(before[:, :-1] - stay[:, :-1], axis=1, out=paths[:, 1:])
    paths += stay
    return paths


class CtcPrefixScorer:
    """Scores tokens by a CTC head, see `auris.decoding.scoring.TokenScorer`.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type.
        blank: class index of the blank.
    """

    def __init__(self, logits: Tensor, blank: int) -> None:
        # In float32, since a vocabulary may be large. One row a class.
        logprobs = logits.float().log_softmax(-1).cpu().T.contiguous()
        self._logprobs = logprobs.numpy()
        self._probabilities = logprobs.exp().numpy()
        self._stays: dict[int, Scores] = {}
        self._stays_blank = self._stays_of([blank])

    def _stays_of(self, units: Sequence[int]) -> Scores:
        """Log-probabilities of classes in all frames up to each, [B, N + 1]."""
        known = self._stays
        if missing := [unit for unit in dict.fromkeys(units) if unit not in known]:
            logprobs = self._logprobs[missing]
            sums = np.zeros((len(missing), logprobs.shape[1] + 1))
            np.cumsum(logprobs, axis=1, dtype=np.float64, out=sums[:, 1:])
            known.update(zip(missing, sums, strict=True))
        return np.array([known[unit] for unit in units])

    def start(self) -> State:
        (before,) = self._stays_blank
        return _PrefixPaths(before, -1, 0.0, either=before)

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _PrefixPaths)
        if any(token not in state.tokens for token in tokens):
            self.most([state], np.array([tokens]))
        return [self.follow(state, token, 0.0) for token in tokens]

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        assert isinstance(state, _PrefixPaths)
        if token not in state.tokens:
            self.most([state], np.array([[token]]))
        score = state.scores[state.tokens.index(token)]
        before = state.in_blank if token == state.last else state.either
        assert before is not None
        return score, _PrefixPaths(before, token, state.logprob + score)

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        paths = []
        for state in states:
            assert isinstance(state, _PrefixPaths)
            paths.append(state)
        self._add_paths(paths)
        units = self._probabilities[tokens]
        logprobs = np.array([one.logprob for one in paths])
        probabilities = (units * _entering([one.either for one in paths], logprobs)[:, None]).sum(2)
        # The last unit again needs a blank between.
        lasts = np.array([one.last for one in paths])
        rows, columns = np.nonzero(tokens == lasts[:, None])
        if len(rows):
            after_blank = _entering([paths[row].in_blank for row in rows], logprobs[rows])
            probabilities[rows, columns] = (units[rows, columns] * after_blank).sum(1)
        logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
        scores: Scores = np.maximum(logs, LEAST_SCORE)
        for one, own_tokens, own in zip(paths, tokens.tolist(), scores.tolist(), strict=True):
            one.tokens, one.scores = own_tokens, own
        return scores

    def _add_paths(self, prefixes: Sequence[_PrefixPaths]) -> None:
        """Compute the paths of prefixes that have none yet."""
        missing = [one for one in prefixes if one.either is None]
        if not missing:
            return
        before = np.array([one.before for one in missing])
        in_unit = _series(before, self._stays_of([one.last for one in missing]))
        in_blank = _series(in_unit, self._stays_blank)
        either = np.logaddexp(in_unit, in_blank)
        for index, one in enumerate(missing):
            one.in_blank, one.either = in_blank[index], either[index]

    def end(self, state: State) -> float:
        assert isinstance(state, _PrefixPaths)
        self._add_paths([state])
        assert state.either is not None
        return max(float(state.either[-1]) - state.logprob, LEAST_SCORE)


def _entering(paths: Sequence[Scores | None], logprobs: Scores) -> Scores:
    """Probabilities of the paths that a unit may continue in each frame, relative to all paths that
    begin with the prefix, [B, N].

    Args:
        paths: log-probabilities of the paths of each prefix, [N + 1] each.
        logprobs: of all paths that begin with the prefixes, [B].
    """
    entering: Scores = np.exp(np.array(paths)[:, :-1] - logprobs[:, None])
    return entering
