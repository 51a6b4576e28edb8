"""Scores from outside the model: what a language model, hotwords and a CTC head have in common.

A scorer follows every hypothesis with a state of its own and says what to add to the model's
log-probabilities of the tokens that could come next ("shallow fusion"). It knows token ids and the
bytes that they write (`TokenBytes`), no text, no tokenizer and no model, so one scorer serves
greedy decoding, beam search and the prefix beam search of CTC models.

The sum of the scores along a text, with `end` at its end, is the scorer's score of the text. What
was added for the beginning of something that was not completed is subtracted again when it breaks
off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = Hashable
"""What a scorer knows of the text of a hypothesis; an immutable value."""

TokenBytes: TypeAlias = Callable[[int], bytes]
"""The bytes that a token writes, with the space before a word; none for a control token."""

Scores: TypeAlias = NDArray[np.float64]
Tokens: TypeAlias = NDArray[np.int64]

MISSING = -10_000.0
"""Score of a text without the token that it has to have."""


class Candidates(NamedTuple):
    """The best next tokens of a text, the best one first, with their log-probabilities. The margin
    of each is its distance to the best other one, negative for all but the first."""

    tokens: list[int]
    logprobs: list[float]
    margins: list[float]


class TokenScorer(Protocol):
    """Scores the tokens of a text one by one, in natural-log units."""

    def start(self) -> State:
        """The state of an empty text."""

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        """What to add for each of some tokens that could come next, and the state after it.

        The same arguments give the same result, whatever was computed before.

        Args:
            state: of the text so far.
            tokens: candidates, no stop tokens and no blank.
            margins: the model's log-probability of each candidate minus that of the best
                candidate at this place, 0 or less. A scorer may ignore candidates that are far
                below the best one.

        Returns:
            score and state of each candidate, in order. No score is NaN or positive infinity.
        """

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        """`extend` of one token."""

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        """The most that `extend` may add, so that a search need not compute what it adds to all
        tokens.

        Args:
            states: of some texts.
            tokens: that could come next in each, [texts, n].

        Returns:
            [texts, n]; infinite where nothing is known.
        """

    def end(self, state: State) -> float:
        """What to add if the text ends in this state."""


class HotwordScorer(TokenScorer, Protocol):
    """A scorer that adds something at some places only."""

    def may_add(self, state: State) -> bool:
        """Whether a next token may have a score other than 0."""

    def affected(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> Sequence[int]:
        """The numbers of those tokens, in order, whose score may not be 0, see `extend`."""

    def without_locations(self) -> TokenScorer:
        """The same scorer without limits to where in a text a hotword may be."""


class WeightedScorer:
    """The weighted sum of scorers.

    Args:
        parts: scorers and their weights, 0 or more.
    """

    def __init__(self, parts: Sequence[tuple[TokenScorer, float]]) -> None:
        self._parts = tuple(parts)

    def start(self) -> State:
        return tuple(scorer.start() for scorer, _ in self._parts)

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, tuple)
        totals = [0.0] * len(tokens)
        states: list[list[State]] = [[] for _ in tokens]
        for (scorer, weight), own in zip(self._parts, state, strict=True):
            extended = scorer.extend(own, tokens, margins)
            for index, (score, following) in enumerate(extended):
                totals[index] += weight * score
                states[index].append(following)
        return [(total, tuple(one)) for total, one in zip(totals, states, strict=True)]

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        assert isinstance(state, tuple)
        total = 0.0
        following = []
        for (scorer, weight), own in zip(self._parts, state, strict=True):
            score, after = scorer.follow(own, token, margin)
            total += weight * score
            following.append(after)
        return total, tuple(following)

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        totals = np.zeros(tokens.shape)
        for index, (scorer, weight) in enumerate(self._parts):
            if weight == 0.0:  # The most may be infinite.
                continue
            own = []
            for state in states:
                assert isinstance(state, tuple)
                own.append(state[index])
            totals += weight * scorer.most(own, tokens)
        return totals

    def end(self, state: State) -> float:
        assert isinstance(state, tuple)
        pairs = zip(self._parts, state, strict=True)
        return sum(weight * scorer.end(own) for (scorer, weight), own in pairs)


@dataclass(frozen=True)
class _Before:
    """The state before the token of a `ScorerAfter`: the tokens so far, or None after others than
    those that are expected."""

    tokens: tuple[int, ...] | None = ()


class ScorerAfter:
    """A scorer that begins after a token, such as the one that ends the language of a reply.

    Args:
        scorer: scores what follows the first `token`; everything before it scores 0.
        token: the token.
        expected: what may come before the token. A text with other tokens there, or without the
            token, is all but impossible, so that no text avoids costs by leaving the token out.
            None expects nothing.
    """

    def __init__(
        self,
        scorer: TokenScorer,
        token: int,
        expected: Iterable[Sequence[int]] | None = None,
    ) -> None:
        self._scorer = scorer
        self._token = token
        self._beginnings: set[tuple[int, ...]] | None = None
        if expected is not None:
            self._beginnings = {
                tuple(tokens[:end]) for tokens in expected for end in range(len(tokens) + 1)
            }

    def start(self) -> State:
        return _Before()

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        if not isinstance(state, _Before):
            return self._scorer.extend(state, tokens, margins)
        begun = self._scorer.start()
        return [
            (0.0, begun) if token == self._token else self._before(state, token) for token in tokens
        ]

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        if not isinstance(state, _Before):
            return self._scorer.follow(state, token, margin)
        return (0.0, self._scorer.start()) if token == self._token else self._before(state, token)

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        begun = [row for row, state in enumerate(states) if not isinstance(state, _Before)]
        if len(begun) == len(states):
            return self._scorer.most(states, tokens)
        bounds = np.zeros(tokens.shape)
        if begun:
            bounds[begun] = self._scorer.most([states[row] for row in begun], tokens[begun])
        return bounds

    def _before(self, state: _Before, token: int) -> tuple[float, State]:
        if self._beginnings is None or state.tokens is None:
            return 0.0, state
        longer = (*state.tokens, token)
        return (0.0, _Before(longer)) if longer in self._beginnings else (MISSING, _Before(None))

    def end(self, state: State) -> float:
        if not isinstance(state, _Before):
            return self._scorer.end(state)
        # A text that differs from all beginnings had `MISSING` added already.
        return 0.0 if self._beginnings is None or state.tokens is None else MISSING


class HotwordsAfter(ScorerAfter):
    """Hotwords that begin after a token, see `ScorerAfter`."""

    def __init__(self, hotwords: HotwordScorer, token: int) -> None:
        super().__init__(hotwords, token)
        self._hotwords = hotwords

    def may_add(self, state: State) -> bool:
        return not isinstance(state, _Before) and self._hotwords.may_add(state)

    def affected(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> Sequence[int]:
        return () if isinstance(state, _Before) else self._hotwords.affected(state, tokens, margins)

    def without_locations(self) -> ScorerAfter:
        return ScorerAfter(self._hotwords.without_locations(), self._token)


def text_score(
    scorer: TokenScorer, tokens: Sequence[int], margins: Sequence[float] | None = None
) -> float:
    """The score of a whole text.

    Args:
        margins: of its tokens, see `TokenScorer.extend`; None if they are the best ones.
    """
    state, total = scorer.start(), 0.0
    for token, margin in zip(tokens, margins or [0.0] * len(tokens), strict=True):
        score, state = scorer.follow(state, token, margin)
        total += score
    return total + scorer.end(state)


def scored_candidates(
    scorer: TokenScorer, state: State, candidates: Candidates, stops: Collection[int]
) -> list[tuple[float, State]]:
    """What a scorer adds to each of the best next tokens, and the state after it.

    Args:
        stops: ids that end a text; the state after them is the one before.
    """
    pairs = zip(candidates.tokens, candidates.margins, strict=True)
    texts = [(token, min(margin, 0.0)) for token, margin in pairs if token not in stops]
    extended = scorer.extend(state, [token for token, _ in texts], [margin for _, margin in texts])
    if len(texts) == len(candidates.tokens):
        return extended
    end, others = (scorer.end(state), state), iter(extended)
    return [end if token in stops else next(others) for token in candidates.tokens]


def raised_candidates(
    hotwords: HotwordScorer, state: State, candidates: Candidates, stops: Collection[int]
) -> dict[int, tuple[float, State]]:
    """What hotwords add to each of the best next tokens whose score may not be 0, by its number,
    and the state after it; see `scored_candidates`."""
    margins = [min(margin, 0.0) for margin in candidates.margins]
    numbers = hotwords.affected(state, candidates.tokens, margins)
    affected = Candidates(
        [candidates.tokens[number] for number in numbers],
        [candidates.logprobs[number] for number in numbers],
        [candidates.margins[number] for number in numbers],
    )
    scored = scored_candidates(hotwords, state, affected, stops)
    return dict(zip(numbers, scored, strict=True))
