"""How sure a text is: chances for tokens and words, and whether there was speech at all.

Features are made here, the same when a calibration is fitted and when it is applied; what they
weigh is the model's calibration. Without one, probabilities stand as the model gives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auris.checkpoints.calibration import Calibration
from auris.recognition.fallback import DecodeResult
from auris.text.prompt import TEXT_TAG
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words

__all__ = [
    "Judged",
    "ScoredWord",
    "judge",
    "lowest_of_words",
    "piece_logprob",
    "scored_words",
    "silence_features",
    "token_features",
    "word_features",
]

MOST_ODDS, LEAST_ODDS = 10.0, -20.0
"""Log-odds beyond them weigh no more: of chances near 1 float32 does not tell more, and one in 500
million is none."""


@dataclass(frozen=True)
class ScoredWord:
    """A word of a text and the tokens that write it.

    Attributes:
        text: as `split_words` cuts it, languages whose words need a package by letters.
        tokens: places among the attempt's tokens; empty where they are not known.
    """

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """Chances of one attempt, see `auris.types.Segment`."""

    token_confidences: tuple[float, ...]
    word_confidences: tuple[tuple[str, float | None], ...]
    no_speech: bool
    no_speech_probability: float | None


def _letters(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of some tokens, and the letters that each one has a share in."""
    decoder, text = tokenizer.decoder(), ""
    spans = []
    for token in ids:
        begin = len(text)
        text += decoder.push(token)
        # A letter whose bytes later tokens complete is the next one.
        spans.append((begin, len(text) + decoder.pending))
    return text + decoder.flush(), spans


def scored_words(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> list[ScoredWord]:
    """The words of a reply's text, with the tokens that write them.

    Args:
        tokenizer: the model's.
        ids: the reply's tokens.
        text: what `auris.text.reply` made of them: a part of what they spell, or where repeats
            were collapsed, several parts in order.
    """
    spelled, spans = _letters(tokenizer, ids)
    cursor = spelled.find(TEXT_TAG) + len(TEXT_TAG) if TEXT_TAG in spelled else 0
    words, first = [], 0
    for word in split_words(text):
        shown = text[word.start : word.end]
        begin = spelled.find(shown, cursor)
        if begin < 0:
            words.append(ScoredWord(word.text, ()))
            continue
        cursor = begin + len(shown)
        while first < len(spans) and spans[first][1] <= begin:
            first += 1
        last = first
        while last < len(spans) and spans[last][0] < cursor:
            last += 1
        tokens = (n for n in range(first, last) if spans[n][1] > begin)
        words.append(ScoredWord(word.text, tuple(tokens)))
    return words


def _log_odds(logprob: float) -> float:
    """Log-odds of a natural-log probability, from `LEAST_ODDS` to `MOST_ODDS`."""
    logprob = min(logprob, -1e-9)
    odds = logprob - math.log(-math.expm1(logprob))
    return min(max(odds, LEAST_ODDS), MOST_ODDS)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def word_features(logprobs: Sequence[float], piece: float) -> tuple[float, ...]:
    """`WORD_FEATURES` of a word.

    Args:
        logprobs: of the tokens that write it.
        piece: mean log-probability of all tokens that write words of its piece.
    """
    return (
        _log_odds(_mean(logprobs)),
        _log_odds(min(logprobs)),
        _log_odds(piece),
        math.log(len(logprobs)),
    )


def token_features(logprob: float, word: float, piece: float) -> tuple[float, ...]:
    """`TOKEN_FEATURES` of a token.

    Args:
        logprob: its own.
        word: the lowest of the tokens of its words.
        piece: see `word_features`.
    """
    return _log_odds(logprob), _log_odds(word), _log_odds(piece)


def silence_features(silence_logprob: float | None, piece: float | None) -> tuple[float, ...]:
    """`SILENCE_FEATURES` of a piece.

    Args:
        silence_logprob: see `auris.recognition.fallback.Attempt`; not asked counts as unlikely.
        piece: see `word_features`; None for a piece without words.
    """
    silence = LEAST_ODDS if silence_logprob is None else _log_odds(silence_logprob)
    return silence, 0.0 if piece is None else _log_odds(piece), float(piece is None)


def piece_logprob(logprobs: Sequence[float], words: Sequence[ScoredWord]) -> float | None:
    """Mean log-probability of the tokens that write words; None where none does."""
    written = {place for word in words for place in word.tokens}
    return _mean([logprobs[place] for place in sorted(written)]) if written else None


def judge(
    tokenizer: Tokenizer, attempt: DecodeResult, reply: Reply, calibration: Calibration | None
) -> Judged:
    """Chances of an attempt: calibrated ones, or without a calibration the model's own.

    Args:
        tokenizer: the model's.
        attempt: what was decoded.
        reply: its language and text.
        calibration: the model's.
    """
    words = scored_words(tokenizer, attempt.said(tokenizer), reply.text)
    piece = piece_logprob(attempt.logprobs, words)
    no_speech, chance = _judge_speech(attempt, reply, piece, calibration)
    scorer = _Scorer(attempt.logprobs, piece, calibration)
    return Judged(
        token_confidences=scorer.tokens(words),
        word_confidences=() if no_speech else scorer.words(words),
        no_speech=no_speech,
        no_speech_probability=chance,
    )


def _judge_speech(
    attempt: DecodeResult, reply: Reply, piece: float | None, calibration: Calibration | None
) -> tuple[bool, float | None]:
    """Whether nothing was said, and how likely that is."""
    silence = attempt.silence_logprob
    nothing = attempt.reason == "stop" and not reply.text
    if calibration is None:
        return nothing, None if silence is None else math.exp(silence)
    chance = calibration.silence(silence_features(silence, piece))
    doubtful = piece is not None and attempt.reason != "cancelled"
    return nothing or (doubtful and chance > calibration.silence_threshold), chance


@dataclass(frozen=True)
class _Scorer:
    """Chances of the tokens and words of one attempt.

    Attributes:
        logprobs: of its tokens.
        piece: see `word_features`.
        calibration: the model's, or None.
    """

    logprobs: Sequence[float]
    piece: float | None
    calibration: Calibration | None

    def tokens(self, words: Sequence[ScoredWord]) -> tuple[float, ...]:
        """A chance for every token; what writes no word has the model's own."""
        chances = [math.exp(logprob) for logprob in self.logprobs]
        if self.calibration is None or self.piece is None:
            return tuple(chances)
        for place, lowest in lowest_of_words(self.logprobs, words).items():
            features = token_features(self.logprobs[place], lowest, self.piece)
            chances[place] = self.calibration.token(features)
        return tuple(chances)

    def words(self, words: Sequence[ScoredWord]) -> tuple[tuple[str, float | None], ...]:
        """The words with their chances."""
        return tuple((word.text, self._word(word)) for word in words)

    def _word(self, word: ScoredWord) -> float | None:
        if not word.tokens or self.piece is None:
            return None
        logprobs = [self.logprobs[place] for place in word.tokens]
        if self.calibration is None:
            return math.exp(_mean(logprobs))
        return self.calibration.word(word_features(logprobs, self.piece))


def lowest_of_words(logprobs: Sequence[float], words: Sequence[ScoredWord]) -> dict[int, float]:
    """For every token that writes words, the lowest log-probability among the tokens of those."""
    lowest: dict[int, float] = {}
    for word in words:
        least = min((logprobs[place] for place in word.tokens), default=0.0)
        for place in word.tokens:
            lowest[place] = min(least, lowest.get(place, 0.0))
    return lowest
