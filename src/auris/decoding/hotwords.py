"""Hotwords: words and phrases that are written more readily, such as names.

Tokens are read byte by byte through a trie of the phrases, so a phrase is recognized whatever
tokens write it. Every byte of a phrase adds its part of a bonus; if the phrase breaks off, what its
beginning has added is subtracted again. A text is divided into phrases from left to right, and the
longest phrase counts. A phrase begins and ends at the boundaries of words, except in scripts that
write no spaces between words.

A token that the model considers far less likely than the best one is never part of a phrase, so
hotwords are not written where nothing like them was said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from auris.decoding.scoring import Scores, State, TokenBytes, Tokens

BYTE_BONUS = 2.0
"""What each byte of a phrase adds to the log-probability of its text."""

VARIANT_SHARE = 0.8
"""Share of the bonus for a phrase in other letter case than it was given in."""

LEAST_MARGIN = -8.0
"""Least log-probability of a token of a phrase, relative to that of the best token."""

MOST_TRANSITIONS = 200_000
"""Transitions that are cached; the cache is emptied when there are more."""

NO_WEIGHTS: Mapping[str, float] = MappingProxyType({})

ROOT = 0


def spellings(phrase: str) -> dict[str, float]:
    """How a phrase may be written, with the share of the bonus that each spelling has."""
    given = " ".join(phrase.split())
    capitalized = given[:1].upper() + given[1:]
    return {given.lower(): VARIANT_SHARE, capitalized: VARIANT_SHARE, given: 1.0}


def joins(first: int) -> bool:
    """Whether a character belongs to a word together with its neighbours, from its first byte in
    UTF-8.

    Letters and digits do. Of characters of several bytes, those do that are letters of Latin,
    Greek, Cyrillic and other scripts up to Georgian, but not Chinese, Japanese and Korean ones:
    there words follow each other, and particles follow words, without a space.
    """
    return chr(first).isalnum() if first < 0x80 else 0xC3 <= first <= 0xE1


def begins_character(byte: int) -> bool:
    """Whether a byte of UTF-8 is the first one of a character."""
    return not 0x80 <= byte < 0xC0


class TokenBeginnings(dict[int, int]):
    """By token, the bytes at which a phrase may begin in it: bit N of the number for byte N.

    Args:
        token_bytes: the bytes of a token.
    """

    def __init__(self, token_bytes: TokenBytes) -> None:
        super().__init__()
        self._token_bytes = token_bytes

    def __missing__(self, token: int) -> int:
        bits, after_letter = 0, False
        for byte in filter(begins_character, self._token_bytes(token)):
            bits |= 0 if after_letter and joins(byte) else 1 << byte
            after_letter = joins(byte)
        self[token] = bits
        return bits


class Completed(NamedTuple):
    """A phrase that is complete, and its bonus."""

    phrase: str
    bonus: float


class Transition(NamedTuple):
    """What a token does to a text.

    Attributes:
        score: what it adds.
        state: the state after it.
        completed: phrases that are complete with it, in order.
        begins: whether the text then ends in the middle of a phrase that the token begins.
    """

    score: float
    state: State
    completed: tuple[Completed, ...]
    begins: bool


class Hotwords:
    """Scores phrases, see `auris.decoding.scoring.HotwordScorer`.

    A state is the node of the phrase that the text may end in the middle of, and whether a letter
    precedes that phrase, or, at the root, the next byte.

    Args:
        phrases: words and phrases, in their own letter case.
        token_bytes: the bytes of a token.
        weights: of the bonuses of some phrases; it is 1 of the others.
        least_margin: see `LEAST_MARGIN`.
        beginnings: of the tokens, for all lists of a vocabulary; None for own ones.

    Attributes:
        largest_bonuses: of each phrase, of all its spellings.
    """

    def __init__(
        self,
        phrases: Iterable[str],
        token_bytes: TokenBytes,
        weights: Mapping[str, float] = NO_WEIGHTS,
        least_margin: float = LEAST_MARGIN,
        beginnings: TokenBeginnings | None = None,
    ) -> None:
        self._token_bytes = token_bytes
        self._beginnings = TokenBeginnings(token_bytes) if beginnings is None else beginnings
        self._least_margin = least_margin
        self._children: dict[tuple[int, int], int] = {}
        self._first_bytes = 0  # As in `TokenBeginnings`.
        self._paths = [b""]
        self._gains = [0.0]
        self._bonuses: dict[int, Completed] = {}
        self.largest_bonuses: dict[str, float] = {}
        for phrase in phrases:
            for text, share in spellings(phrase).items():
                self._add(phrase, text.encode(), weights.get(phrase, 1.0) * share)
        self._transitions: dict[tuple[State, int, bool], Transition] = {}

    def _add(self, phrase: str, text: bytes, weight: float) -> None:
        node, gain = ROOT, 0.0
        self._first_bytes |= 1 << text[0] if text else 0
        for length, byte in enumerate(text, 1):
            child = self._children.setdefault((node, byte), len(self._paths))
            if child == len(self._paths):
                self._paths.append(text[:length])
                self._gains.append(0.0)
            gain = weight * BYTE_BONUS * length
            self._gains[child] = max(self._gains[child], gain)
            node = child
        known = self._bonuses.get(node)
        if node != ROOT and (known is None or known.bonus < gain):
            self._bonuses[node] = Completed(phrase, gain)
            self.largest_bonuses[phrase] = max(gain, self.largest_bonuses.get(phrase, 0.0))

    def start(self) -> State:
        return ROOT, False

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        return [self.follow(state, *one) for one in zip(tokens, margins, strict=True)]

    def transition(self, state: State, token: int, margin: float) -> Transition:
        """What a token adds and completes, see `extend`."""
        key = (state, token, margin >= self._least_margin)
        known = self._transitions.get(key)
        if known is None:
            if len(self._transitions) >= MOST_TRANSITIONS:
                self._transitions.clear()
            known = self._transitions[key] = self._transition(
                state, self._token_bytes(token), key[2]
            )
        return known

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        transition = self.transition(state, token, margin)
        return transition.score, transition.state

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        return np.full(tokens.shape, np.inf)

    def end(self, state: State) -> float:
        score, _ = self.ending(state)
        return score

    def ending(self, state: State) -> tuple[float, tuple[Completed, ...]]:
        """What the end of the text adds, and the phrases that it completes."""
        node, after_letter = self._parts(state)
        completed, _ = self._read(self._paths[node], after_letter, b" ")
        return _total(completed) - self._gains[node], completed

    def may_add(self, state: State) -> bool:
        return True

    def affected(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> Sequence[int]:
        if not self.is_idle(state):
            return range(len(tokens))
        first_bytes, least, beginnings = self._first_bytes, self._least_margin, self._beginnings
        pairs = enumerate(zip(tokens, margins, strict=True))
        return [
            n for n, (one, margin) in pairs if beginnings[one] & first_bytes and margin >= least
        ]

    def without_locations(self) -> Hotwords:
        return self

    def is_idle(self, state: State) -> bool:
        """Whether the text does not end in the middle of a phrase."""
        return self._parts(state)[0] == ROOT

    @staticmethod
    def _parts(state: State) -> tuple[int, bool]:
        assert isinstance(state, tuple)
        node, after_letter = state
        return node, after_letter

    def _transition(self, state: State, data: bytes, likely: bool) -> Transition:
        """The same by the bytes of the token; an unlikely one is part of no phrase."""
        if not data:
            return Transition(0.0, state, (), False)
        node, after_letter = self._parts(state)
        if likely:
            completed, following = self._read(self._paths[node] + data, after_letter)
        else:
            completed, _ = self._read(self._paths[node], after_letter, data)
            following = ROOT, _letter_at_end(data, after_letter)
        score = _total(completed) + self._gains[following[0]] - self._gains[node]
        begins = 0 < len(self._paths[following[0]]) <= len(data)
        return Transition(score, following, completed, begins)

    def _read(
        self, data: bytes, after_letter: bool, unread: bytes = b""
    ) -> tuple[tuple[Completed, ...], tuple[int, bool]]:
        """The phrases that some bytes complete, and the state after them.

        Args:
            after_letter: whether a letter precedes them.
            unread: what follows them, if no phrase may continue there.
        """
        completed: list[Completed] = []
        begin = 0
        while begin < len(data):
            node, end, complete = ROOT, begin, 0
            while end < len(data) and self._may_begin(data[begin], after_letter):
                child = self._children.get((node, data[end]))
                if child is None:
                    break
                node, end = child, end + 1
                if node in self._bonuses and _is_boundary(data, end, unread):
                    complete, bonus = end, self._bonuses[node]
            if end == len(data) and node != ROOT and not unread:
                return tuple(completed), (node, after_letter)
            if complete:
                completed.append(bonus)
            following = complete or begin + 1
            after_letter = _letter_at_end(data[begin:following], after_letter)
            begin = following
        return tuple(completed), (ROOT, after_letter)

    @staticmethod
    def _may_begin(byte: int, after_letter: bool) -> bool:
        return begins_character(byte) and not (after_letter and joins(byte))


class Location(NamedTuple):
    """Where a phrase may be in a text, in tokens.

    Attributes:
        begin, end: the tokens that it most probably has, up to `end - 1`; at least one.
        offsets: how many tokens may precede it.
    """

    begin: int
    end: int
    offsets: frozenset[int]

    def overlaps(self, other: Location) -> bool:
        """Whether only one of two phrases can be said."""
        return self.begin < other.end and other.begin < self.end


class _Raised(NamedTuple):
    """A location where a phrase of the text is raised, by its number, and the bonus."""

    number: int
    bonus: float


class _Located(NamedTuple):
    """A state of `LocatedHotwords`.

    Attributes:
        length: tokens so far.
        own: the state of the hotwords.
        begun: tokens before the phrase that the text may end in the middle of.
        raised: where the phrases of the text are raised.
    """

    length: int
    own: State
    begun: int = 0
    raised: tuple[_Raised, ...] = ()


class LocatedHotwords:
    """Hotwords that are raised only where they may be said, see
    `auris.decoding.scoring.HotwordScorer`. Of phrases whose locations overlap, only one is raised:
    a later one instead of earlier ones if its bonus is larger than theirs together.

    Args:
        hotwords: the phrases.
        locations: of each phrase.
    """

    def __init__(self, hotwords: Hotwords, locations: Mapping[str, Sequence[Location]]) -> None:
        self._hotwords = hotwords
        listed = [(phrase, location) for phrase, own in locations.items() for location in own]
        self._phrases = [phrase for phrase, _ in listed]
        self._overlapping = [
            frozenset(
                number for number, (_, other) in enumerate(listed) if location.overlaps(other)
            )
            for _, location in listed
        ]
        self._most = [hotwords.largest_bonuses.get(phrase, 0.0) for phrase in self._phrases]
        self._numbers: dict[int, list[int]] = {}
        for number, (_, location) in enumerate(listed):
            for offset in location.offsets:
                self._numbers.setdefault(offset, []).append(number)
        self._anywhere = False

    def start(self) -> State:
        return _Located(0, self._hotwords.start())

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _Located)
        if not self.may_add(state):
            margins = [-math.inf] * len(tokens)
        # Most tokens are part of no phrase and lead to the same state.
        known: dict[tuple[State, bool], State] = {}
        extended: list[tuple[float, State]] = []
        for token, margin in zip(tokens, margins, strict=True):
            transition = self._hotwords.transition(state.own, token, margin)
            if transition.completed:
                extended.append(self._following(state, transition))
                continue
            key = transition.state, transition.begins
            if key not in known:
                _, known[key] = self._following(state, transition)
            extended.append((transition.score, known[key]))
        return extended

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        ((score, following),) = self.extend(state, [token], [margin])
        return score, following

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        return np.full(tokens.shape, np.inf)

    def end(self, state: State) -> float:
        assert isinstance(state, _Located)
        score, completed = self._hotwords.ending(state.own)
        lost, _ = self._assign_locations(state, completed)
        return score - lost

    def may_add(self, state: State) -> bool:
        assert isinstance(state, _Located)
        if not self._hotwords.is_idle(state.own):
            return True
        return any(
            self._gain(number, self._most[number], state.raised) > 0
            for number in self._at(state.length)
        )

    def affected(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> Sequence[int]:
        assert isinstance(state, _Located)
        return self._hotwords.affected(state.own, tokens, margins) if self.may_add(state) else ()

    def without_locations(self) -> LocatedHotwords:
        other = copy(self)
        other._anywhere = True
        return other

    def _at(self, offset: int) -> Sequence[int]:
        """The numbers of the locations that a phrase behind so many tokens may have."""
        return range(len(self._phrases)) if self._anywhere else self._numbers.get(offset, ())

    def _following(self, state: _Located, transition: Transition) -> tuple[float, _Located]:
        lost, raised = self._assign_locations(state, transition.completed)
        begun = state.length if transition.begins else self._begun(state)
        following = _Located(state.length + 1, transition.state, begun, raised)
        return transition.score - lost, following

    def _begun(self, state: _Located) -> int:
        return state.length if self._hotwords.is_idle(state.own) else state.begun

    def _assign_locations(
        self, state: _Located, completed: Sequence[Completed]
    ) -> tuple[float, tuple[_Raised, ...]]:
        """What is not counted of the bonus of complete phrases, and what is raised with them."""
        lost, raised, begun = 0.0, state.raised, self._begun(state)
        for phrase, bonus in completed:
            numbers = [one for one in self._at(begun) if self._phrases[one] == phrase]
            gains = [self._gain(number, bonus, raised) for number in numbers]
            gain = max(gains, default=0.0)
            if gain > 0:
                # The first one of several: the phrase may be said again at the others.
                number = numbers[gains.index(gain)]
                others = (one for one in raised if one.number not in self._overlapping[number])
                raised = (*others, _Raised(number, bonus))
            lost += bonus - max(gain, 0.0)
            begun = state.length
        return lost, raised

    def _gain(self, number: int, bonus: float, raised: Sequence[_Raised]) -> float:
        """What a bonus at a location adds if those that it overlaps are taken back."""
        overlapping = self._overlapping[number]
        return bonus - sum(one.bonus for one in raised if one.number in overlapping)


def _total(completed: Sequence[Completed]) -> float:
    return sum(one.bonus for one in completed)


def _letter_at_end(data: bytes, before: bool) -> bool:
    """Whether the last character of a text joins others; `before` if no character begins in it."""
    return next((joins(byte) for byte in reversed(data) if begins_character(byte)), before)


def _is_boundary(data: bytes, end: int, unread: bytes) -> bool:
    """Whether a word may end at an index of some bytes, which are followed by unread ones."""
    following = data[end : end + 1] or unread[:1]
    if not following or not begins_character(following[0]):
        return False
    return not (joins(following[0]) and _letter_at_end(data[:end], False))
