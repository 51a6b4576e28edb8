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
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from auris.decoding.scoring import State, TokenBytes

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


class Hotwords:
    """Scores phrases, see `auris.decoding.scoring.HotwordScorer`.

    A state is the node of the phrase that the text may end in the middle of, and whether a letter
    precedes that phrase, or, at the root, the next byte.

    Args:
        phrases: words and phrases, in their own letter case.
        token_bytes: the bytes of a token.
        weights: of the bonuses of some phrases; it is 1 of the others.
        least_margin: see `LEAST_MARGIN`.
    """

    def __init__(
        self,
        phrases: Iterable[str],
        token_bytes: TokenBytes,
        weights: Mapping[str, float] = NO_WEIGHTS,
        least_margin: float = LEAST_MARGIN,
    ) -> None:
        self._token_bytes = token_bytes
        self._least_margin = least_margin
        self._children: dict[tuple[int, int], int] = {}
        self._paths = [b""]
        self._gains = [0.0]
        self._bonuses: dict[int, float] = {}
        for phrase in phrases:
            for text, share in spellings(phrase).items():
                self._add(text.encode(), weights.get(phrase, 1.0) * share)
        self._transitions: dict[tuple[State, int, bool], tuple[float, State]] = {}

    def _add(self, text: bytes, weight: float) -> None:
        node, gain = ROOT, 0.0
        for length, byte in enumerate(text, 1):
            child = self._children.setdefault((node, byte), len(self._paths))
            if child == len(self._paths):
                self._paths.append(text[:length])
                self._gains.append(0.0)
            gain = weight * BYTE_BONUS * length
            self._gains[child] = max(self._gains[child], gain)
            node = child
        if node != ROOT:
            self._bonuses[node] = max(gain, self._bonuses.get(node, 0.0))

    def start(self) -> State:
        return ROOT, False

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        scored = []
        for token, margin in zip(tokens, margins, strict=True):
            likely = margin >= self._least_margin
            known = self._transitions.get((state, token, likely))
            if known is None:
                if len(self._transitions) >= MOST_TRANSITIONS:
                    self._transitions.clear()
                known = self._transition(state, self._token_bytes(token), likely)
                self._transitions[state, token, likely] = known
            scored.append(known)
        return scored

    def end(self, state: State) -> float:
        node, after_letter = self._parts(state)
        bonus, _ = self._read(self._paths[node], after_letter, b" ")
        return bonus - self._gains[node]

    def may_add(self, state: State) -> bool:
        return True

    def is_idle(self, state: State) -> bool:
        """Whether the text does not end in the middle of a phrase."""
        return self._parts(state)[0] == ROOT

    @staticmethod
    def _parts(state: State) -> tuple[int, bool]:
        assert isinstance(state, tuple)
        node, after_letter = state
        return node, after_letter

    def _transition(self, state: State, data: bytes, likely: bool) -> tuple[float, State]:
        """Score and state after the bytes of a token; an unlikely one is part of no phrase."""
        if not data:
            return 0.0, state
        node, after_letter = self._parts(state)
        if likely:
            bonus, following = self._read(self._paths[node] + data, after_letter)
        else:
            bonus, _ = self._read(self._paths[node], after_letter, data)
            following = ROOT, _letter_at_end(data, after_letter)
        return bonus + self._gains[following[0]] - self._gains[node], following

    def _read(
        self, data: bytes, after_letter: bool, unread: bytes = b""
    ) -> tuple[float, tuple[int, bool]]:
        """The bonus of complete phrases in some bytes, and the state after them.

        Args:
            after_letter: whether a letter precedes them.
            unread: what follows them, if no phrase may continue there.
        """
        total, begin = 0.0, 0
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
                return total, (node, after_letter)
            if complete:
                total += bonus
            following = complete or begin + 1
            after_letter = _letter_at_end(data[begin:following], after_letter)
            begin = following
        return total, (ROOT, after_letter)

    @staticmethod
    def _may_begin(byte: int, after_letter: bool) -> bool:
        return begins_character(byte) and not (after_letter and joins(byte))


class _Located(NamedTuple):
    """A state of `LocatedHotwords`.

    Attributes:
        length: tokens so far.
        own: the state of the hotwords.
        begun: tokens before the phrase that the text may end in the middle of.
        used: no phrase begins at this offset or before it any more.
    """

    length: int
    own: State
    begun: int = 0
    used: int = -1


class LocatedHotwords:
    """Hotwords that begin only at some offsets, see `auris.decoding.scoring.HotwordScorer`.

    Consecutive offsets stand for one phrase in the audio: of the phrases that begin at them, only
    the first one is raised.

    Args:
        hotwords: the phrases.
        offsets: how many tokens may precede a phrase.
    """

    def __init__(self, hotwords: Hotwords, offsets: Collection[int]) -> None:
        self._hotwords = hotwords
        self._run_ends: dict[int, int] = {}
        for offset in sorted(offsets, reverse=True):
            self._run_ends[offset] = self._run_ends.get(offset + 1, offset)

    def start(self) -> State:
        return _Located(0, self._hotwords.start())

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _Located)
        if not self.may_add(state):
            margins = [-math.inf] * len(tokens)
        scored = self._hotwords.extend(state.own, tokens, margins)
        return [(score, self._following(state, score, own)) for score, own in scored]

    def _following(self, state: _Located, score: float, own: State) -> _Located:
        begun, used = state.begun, state.used
        if self._hotwords.is_idle(state.own):
            begun = state.length
        elif self._hotwords.is_idle(own) and score >= 0.0:
            # The phrase is complete: where it breaks off, its bonus is subtracted.
            used = self._run_ends[begun]
        return _Located(state.length + 1, own, begun, used)

    def end(self, state: State) -> float:
        assert isinstance(state, _Located)
        return self._hotwords.end(state.own)

    def may_add(self, state: State) -> bool:
        assert isinstance(state, _Located)
        begins = state.used < state.length and state.length in self._run_ends
        return begins or not self._hotwords.is_idle(state.own)


def _letter_at_end(data: bytes, before: bool) -> bool:
    """Whether the last character of a text joins others; `before` if no character begins in it."""
    firsts = [byte for byte in data if begins_character(byte)]
    return joins(firsts[-1]) if firsts else before


def _is_boundary(data: bytes, end: int, unread: bytes) -> bool:
    """Whether a word may end at an index of some bytes, which are followed by unread ones."""
    following = data[end : end + 1] or unread[:1]
    if not following or not begins_character(following[0]):
        return False
    return not (joins(following[0]) and _letter_at_end(data[:end], False))
