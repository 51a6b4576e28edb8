"""Segments from decode results: text, language, confidences, retries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auris.checkpoints.calibration import Calibration
from auris.recognition.confidence import ResultConfidence, score_result
from auris.recognition.fallback import DecodeResult, FallbackResult
from auris.recognition.requests import ChunkRequest
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, FinishReason, Segment

__all__ = ["SegmentWriter"]


@dataclass(frozen=True)
class _Part:
    """One result of a chunk, its reply and its confidences."""

    result: DecodeResult
    reply: Reply
    confidence: ResultConfidence

    @property
    def text(self) -> str:
        return "" if self.confidence.no_speech else self.reply.text


class SegmentWriter:
    """Writes segments.

    Args:
        tokenizer: the model's.
        reply: extracts the language and the text of a result.
        calibration: maps log-probabilities to confidences; None uses the probabilities.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        reply: Callable[[DecodeResult], Reply],
        calibration: Calibration | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._reply = reply
        self._calibration = calibration

    def segment(self, request: ChunkRequest, fallback: FallbackResult) -> Segment:
        """The segment of a chunk.

        Args:
            request: the whole chunk.
            fallback: the results that count, one for the whole chunk or one for each of its parts.
        """
        parts = [self._part(result) for result in fallback.results]
        words = [pair for part in parts for pair in part.confidence.word_confidences]
        known = [confidence for _, confidence in words if confidence is not None]
        chunk = request.chunk
        return Segment(
            start=chunk.start / SAMPLE_RATE,
            end=(chunk.start + len(chunk.samples)) / SAMPLE_RATE,
            text=join_texts(part.text for part in parts),
            language=_language(parts),
            tokens=tuple(token for part in parts for token in part.result.tokens),
            logprobs=tuple(value for part in parts for value in part.result.logprobs),
            finish_reason=_reason(part.result.reason for part in parts),
            speaker=chunk.speaker,
            token_confidences=tuple(c for part in parts for c in part.confidence.token_confidences),
            word_confidences=tuple(words),
            confidence=math.fsum(known) / len(known) if known else None,
            calibrated=self._calibration is not None,
            no_speech=all(part.confidence.no_speech for part in parts),
            no_speech_probability=_least(part.confidence.no_speech_probability for part in parts),
            retries=fallback.retries,
        )

    def _part(self, result: DecodeResult) -> _Part:
        reply = self._reply(result)
        confidence = score_result(self._tokenizer, result, reply, self._calibration)
        return _Part(result, reply, confidence)


def _language(parts: Iterable[_Part]) -> str | None:
    """The language of most of the text; if there is no text, the first one that was recognized."""
    letters: dict[str, int] = {}
    for part in parts:
        language = None if part.confidence.no_speech else part.reply.language
        if language is not None:
            letters[language] = letters.get(language, 0) + len(part.text)
    return max(letters, key=lambda name: letters[name], default=None)


def _reason(reasons: Iterable[FinishReason]) -> FinishReason:
    return next((reason for reason in reasons if reason != "stop"), "stop")


def _least(probabilities: Iterable[float | None]) -> float | None:
    known = [probability for probability in probabilities if probability is not None]
    return min(known, default=None)
