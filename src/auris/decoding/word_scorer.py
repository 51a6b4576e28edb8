"""A language model over words as a scorer of tokens, see `auris.decoding.scoring`.

The tokens may be letters, parts of words, words or bytes. The score of a token is what it adds to
the log-probability of the words and the beginning of a word that the text consists of, so that the
scores of the tokens of a word add up to the log-probability of the word.
"""

from __future__ import annotations

import codecs
import math
import unicodedata
import weakref
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from auris.decoding.language_model import History, LanguageModel
from auris.decoding.scoring import Scores, State, TokenBytes, Tokens

APOSTROPHE = "'"
APOSTROPHES = frozenset("'\u2019\u02bc")

BOUNDARY = " "

MOST_STATES = 5_000
"""States that are cached; the cache is emptied when there are more."""


class _WordState:
    """What the language model knows of a text.

    Attributes:
        history: the complete words.
        letters: of the word that is not complete.
        prefix: log-probability of a word that begins with them.
        pending: bytes of a character that is not complete.
        bounds: the most that each token may add; None where nothing is known.
        following: score and state after each token, as far as they were needed.
    """

    __slots__ = ("bounds", "following", "history", "letters", "pending", "prefix")

    def __init__(
        self, history: History, letters: str, prefix: float, pending: bytes, bounds: _Bounds | None
    ) -> None:
        self.history = history
        self.letters = letters
        self.prefix = prefix
        self.pending = pending
        self.bounds = bounds
        self.following: dict[int, tuple[float, State]] = {}


class _Bounds(dict[int, float]):
    """The most that each token may add after pending bytes, computed when it is needed."""

    def __init__(self, scorer: WordScorer, pending: bytes, inside: bool) -> None:
        # The scorer has the bounds: without a circle nothing waits for the garbage collector.
        self._scorer: WordScorer = weakref.proxy(scorer)
        self._pending, self._inside = pending, inside

    def __missing__(self, token: int) -> float:
        bound = self[token] = self._scorer.most_added(self._pending, self._inside, token)
        return bound


class WordScorer:
    """Scores tokens by the words that they write.

    Upper and lower case are the same, accents that the model does not know are removed, and
    punctuation scores 0. A word with characters that the model cannot spell, such as digits, is an
    unknown word.

    Args:
        model: the language model.
        token_bytes: the bytes of a token.
        weight: of log-probabilities.
        word_bonus: added for every word; it makes up for the cost of a longer text.
    """

    def __init__(
        self,
        model: LanguageModel,
        token_bytes: TokenBytes,
        weight: float = 1.0,
        word_bonus: float = 0.0,
    ) -> None:
        self._model = model
        self._token_bytes = token_bytes
        self._weight = weight
        self._word_bonus = word_bonus
        self._parts: dict[tuple[bytes, int], tuple[tuple[str, ...], bytes]] = {}
        self._states: dict[tuple[History, str, bytes], _WordState] = {}
        self._words: dict[tuple[History, str], tuple[float, History]] = {}
        self._bounds: dict[tuple[bytes, bool], _Bounds] = {}

    def start(self) -> State:
        if len(self._states) > MOST_STATES:
            self._clear()
        return self._state(self._model.start(), "", b"")

    def _clear(self) -> None:
        """Empty the caches. States refer to each other in circles, which are broken, so that they
        do not wait for the garbage collector."""
        for state in self._states.values():
            state.following.clear()
        self._states.clear()
        self._words.clear()

    def extend(
        self, state: State, tokens: Sequence[int], margins: Sequence[float]
    ) -> list[tuple[float, State]]:
        assert isinstance(state, _WordState)
        following = state.following
        return [following.get(token) or self._follow(state, token) for token in tokens]

    def follow(self, state: State, token: int, margin: float) -> tuple[float, State]:
        assert isinstance(state, _WordState)
        return state.following.get(token) or self._follow(state, token)

    def most(self, states: Sequence[State], tokens: Tokens) -> Scores:
        rows = []
        for state, own in zip(states, tokens.tolist(), strict=True):
            assert isinstance(state, _WordState)
            bounds = state.bounds
            rows.append([math.inf] * len(own) if bounds is None else [bounds[one] for one in own])
        return np.array(rows, np.float64)

    def end(self, state: State) -> float:
        assert isinstance(state, _WordState)
        if not state.letters:
            return 0.0
        logprob, _ = self._complete(state.history, state.letters)
        return self._weight * (logprob - state.prefix)

    def _state(self, history: History, letters: str, pending: bytes) -> _WordState:
        key = (history, letters, pending)
        known = self._states.get(key)
        if known is None:
            prefix, bounds = self._model.prefix(history, letters), self._bounds_of(letters, pending)
            known = self._states[key] = _WordState(history, letters, prefix, pending, bounds)
        return known

    def _bounds_of(self, letters: str, pending: bytes) -> _Bounds | None:
        if letters.endswith(APOSTROPHE):
            # A word with a quotation mark at its end is one without it once it is complete.
            return None
        key = pending, letters != ""
        known = self._bounds.get(key)
        if known is None:
            known = self._bounds[key] = _Bounds(self, *key)
        return known

    def most_added(self, pending: bytes, inside: bool, token: int) -> float:
        """The most that a token may add after pending bytes, inside of a word or not."""
        # A longer beginning of a word is not more probable, nor is the word itself.
        begun = _words_begun(self._parts_of(pending, token)[0], inside)
        return max(self._word_bonus, 0.0) * begun

    def _follow(self, state: _WordState, token: int) -> tuple[float, State]:
        parts, pending = self._parts_of(state.pending, token)
        history, letters, prefix = state.history, state.letters, state.prefix
        logprob, words = 0.0, 0
        for part in parts:
            if part != BOUNDARY:
                # Apostrophes before a word are quotation marks.
                longer = letters + part if letters else part.lstrip(APOSTROPHE)
                words += longer != "" and letters == ""
                letters = longer
            elif letters:
                complete, history = self._complete(history, letters)
                logprob += complete - prefix
                letters, prefix = "", 0.0
        following = self._state(history, letters, pending)
        logprob += following.prefix - prefix
        result = self._weight * logprob + self._word_bonus * words, following
        state.following[token] = result
        return result

    def _parts_of(self, pending: bytes, token: int) -> tuple[tuple[str, ...], bytes]:
        """The letters that a token writes after pending bytes, with a `BOUNDARY` where words end,
        and the bytes that are pending after it."""
        known = self._parts.get((pending, token))
        if known is None:
            text, after = _decoded(pending + self._token_bytes(token))
            runs = groupby(map(self._fold, text), BOUNDARY.__eq__)
            parts = (BOUNDARY if ends else "".join(letters) for ends, letters in runs)
            known = self._parts[pending, token] = tuple(parts), after
        return known

    def _complete(self, history: History, letters: str) -> tuple[float, History]:
        """Log-probability of a complete word, and the history after it."""
        known = self._words.get((history, letters))
        if known is None:
            word = letters if self._model.is_known(letters) else letters.rstrip(APOSTROPHE)
            known = self._words[history, letters] = self._model.word(history, word)
        return known

    def _fold(self, char: str) -> str:
        """The letters of the model that a character stands for; `BOUNDARY` between words, and
        nothing for marks on letters."""
        if char in APOSTROPHES:
            return APOSTROPHE
        if unicodedata.combining(char):
            return ""
        if not char.isalnum():
            return BOUNDARY
        plain = unicodedata.normalize("NFKD", char)
        bare = "".join(part for part in plain if not unicodedata.combining(part))
        for spelled in (char, char.lower(), char.upper(), bare.lower(), bare.upper()):
            if spelled and all(letter in self._model.spelling for letter in spelled):
                return spelled
        return char


def _words_begun(parts: Sequence[str], inside: bool) -> int:
    """How many words may begin with parts of a text, which may continue a word."""
    runs = len(parts) - parts.count(BOUNDARY)
    return runs - (inside and runs > 0 and parts[0] != BOUNDARY)


def _decoded(data: bytes) -> tuple[str, bytes]:
    """The complete characters of some bytes, and the bytes after them."""
    if data.isascii():
        return data.decode("ascii"), b""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, decoder.getstate()[0]
