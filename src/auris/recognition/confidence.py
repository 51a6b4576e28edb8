"""Confidences of tokens and words, and the decision whether a chunk has speech.

The same features are used to fit a calibration and to apply it. Their weights are in the model's
calibration. Without a calibration, the confidences are the model's probabilities.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from auris.checkpoints.calibration import Calibration
from auris.decoding.hotwords import joins
from auris.recognition.requests import DecodeResult
from auris.text.prompt import TEXT_TAG
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words

MAX_ODDS, MIN_ODDS = 10.0, -20.0
"""Log-odds are clipped to this range: float32 cannot represent probabilities nearer to 1, and less
than one in 500 million makes no difference."""


@dataclass(frozen=True)
class ScoredWord:
    """A word of a text and the tokens that write it.

    Attributes:
        text: as `split_words` cuts it without a language.
        tokens: indices of its tokens in the result; empty if they are not known.
    """

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class ResultConfidence:
    """Confidences of one result, see `auris.types.Segment`."""

    token_confidences: tuple[float, ...]
    word_confidences: tuple[tuple[str, float | None], ...]
    no_speech: bool
    no_speech_probability: float | None


def _letters(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of some tokens, and the range of characters that each token contributes to."""
    decoder, text = tokenizer.decoder(), ""
    spans = []
    for token in ids:
        begin = len(text)
        text += decoder.push(token)
        # The bytes of the next character may be completed by later tokens.
        spans.append((begin, len(text) + decoder.pending))
    return text + decoder.flush(), spans


def scored_words(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> list[ScoredWord]:
    """The words of a reply's text, with the tokens that write them.

    Args:
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
    """Log-odds of a natural-log probability, from `MIN_ODDS` to `MAX_ODDS`."""
    logprob = min(logprob, -1e-9)
    odds = logprob - math.log(-math.expm1(logprob))
    return min(max(odds, MIN_ODDS), MAX_ODDS)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def word_features(logprobs: Sequence[float], text_logprob: float) -> tuple[float, ...]:
    """`WORD_FEATURES` of a word.

    Args:
        logprobs: of the tokens that write it.
        text_logprob: mean log-probability of all tokens of the chunk that write words.
    """
    return (
        _log_odds(_mean(logprobs)),
        _log_odds(min(logprobs)),
        _log_odds(text_logprob),
        math.log(len(logprobs)),
    )


def token_features(logprob: float, word: float, text_logprob: float) -> tuple[float, ...]:
    """`TOKEN_FEATURES` of a token.

    Args:
        logprob: its own.
        word: the lowest of the tokens of its words.
        text_logprob: see `word_features`.
    """
    return _log_odds(logprob), _log_odds(word), _log_odds(text_logprob)


def silence_features(
    silence_logprob: float | None, text_logprob: float | None
) -> tuple[float, ...]:
    """`SILENCE_FEATURES` of a chunk.

    Args:
        silence_logprob: see `DecodeResult`; None counts as unlikely.
        text_logprob: see `word_features`; None for a chunk without words.
    """
    silence = MIN_ODDS if silence_logprob is None else _log_odds(silence_logprob)
    return (
        silence,
        0.0 if text_logprob is None else _log_odds(text_logprob),
        float(text_logprob is None),
    )


def mean_text_logprob(logprobs: Sequence[float], words: Sequence[ScoredWord]) -> float | None:
    """Mean log-probability of the tokens that write words; None if none does."""
    written = {index for word in words for index in word.tokens}
    return _mean([logprobs[index] for index in sorted(written)]) if written else None


def score_result(
    tokenizer: Tokenizer, result: DecodeResult, reply: Reply, calibration: Calibration | None
) -> ResultConfidence:
    """Confidences of a result: calibrated, or without a calibration the model's probabilities."""
    words = scored_words(tokenizer, result.text_tokens(tokenizer), reply.text)
    text_logprob = mean_text_logprob(result.logprobs, words)
    no_speech, probability = _no_speech(result, reply, words, text_logprob, calibration)
    confidences: list[tuple[str, float | None]] = []
    for word in () if no_speech else words:
        logprobs = [result.logprobs[index] for index in word.tokens]
        if text_logprob is None or not logprobs:
            confidences.append((word.text, None))
        elif calibration is None:
            confidences.append((word.text, math.exp(_mean(logprobs))))
        else:
            features = word_features(logprobs, text_logprob)
            confidences.append((word.text, calibration.word(features)))
    tokens = _token_confidences(result.logprobs, words, text_logprob, calibration)
    return ResultConfidence(tokens, tuple(confidences), no_speech, probability)


def _no_speech(
    result: DecodeResult,
    reply: Reply,
    words: Sequence[ScoredWord],
    text_logprob: float | None,
    calibration: Calibration | None,
) -> tuple[bool, float | None]:
    """Whether the chunk has no speech, and the probability of that.

    The model's own probability of a hotword is small even where it is said, so hotwords do not
    suppress a text that has other words.
    """
    silence = result.silence_logprob
    empty = result.reason == "stop" and not reply.text
    if calibration is None:
        return empty, None if silence is None else math.exp(silence)
    probability = calibration.silence(silence_features(silence, text_logprob))
    doubtful = text_logprob is not None and result.reason != "cancelled"
    if doubtful and probability > calibration.silence_threshold:
        others = _without_hotwords(reply.text, words, result.request.options.hotwords)
        others_logprob = mean_text_logprob(result.logprobs, others)
        if others_logprob is not None:
            of_others = calibration.silence(silence_features(silence, others_logprob))
            probability = min(probability, of_others)
    return empty or (doubtful and probability > calibration.silence_threshold), probability


def _without_hotwords(
    text: str, words: Sequence[ScoredWord], hotwords: Sequence[str]
) -> list[ScoredWord]:
    """The words of a text that belong to no hotword in it, compared without case."""
    folded, matches = text.casefold(), []
    for phrase in hotwords:
        if phrase.casefold() in folded:  # Most are not, and a list may be long.
            matches += [
                match.span()
                for match in re.finditer(re.escape(phrase), text, re.IGNORECASE)
                if _is_boundary(text, match.start()) and _is_boundary(text, match.end())
            ]
    spans = split_words(text)  # As `scored_words` cuts it.
    return [
        word
        for word, span in zip(words, spans, strict=True)
        if not any(begin < span.end and span.start < end for begin, end in matches)
    ]


def _is_boundary(text: str, index: int) -> bool:
    """Whether a hotword may begin or end there, as in the search."""
    if not 0 < index < len(text):
        return True
    return not all(joins(letter.encode()[0]) for letter in text[index - 1 : index + 1])


def _token_confidences(
    logprobs: Sequence[float],
    words: Sequence[ScoredWord],
    text_logprob: float | None,
    calibration: Calibration | None,
) -> tuple[float, ...]:
    """A confidence for every token; tokens that write no word have the model's probability."""
    confidences = [math.exp(logprob) for logprob in logprobs]
    if calibration is not None and text_logprob is not None:
        for index, lowest in lowest_of_words(logprobs, words).items():
            features = token_features(logprobs[index], lowest, text_logprob)
            confidences[index] = calibration.token(features)
    return tuple(confidences)


def lowest_of_words(logprobs: Sequence[float], words: Sequence[ScoredWord]) -> dict[int, float]:
    """For every token that writes words, the lowest log-probability among the tokens of those."""
    lowest: dict[int, float] = {}
    for word in words:
        least = min((logprobs[index] for index in word.tokens), default=0.0)
        for index in word.tokens:
            lowest[index] = min(least, lowest.get(index, 0.0))
    return lowest
