"""From the attempts at a piece that count to its segment: text, language, chances, account."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auris.checkpoints.calibration import Calibration
from auris.recognition.confidence import Judged, judge
from auris.recognition.fallback import DecodeResult, FallbackResult
from auris.recognition.requests import ChunkRequest
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, FinishReason, Segment

__all__ = ["SegmentWriter"]


@dataclass(frozen=True)
class _Part:
    """A stretch of a piece: its attempt, what that says, and how sure it is."""

    attempt: DecodeResult
    reply: Reply
    judged: Judged

    @property
    def text(self) -> str:
        return "" if self.judged.no_speech else self.reply.text


class SegmentWriter:
    """Writes segments.

    Args:
        tokenizer: the model's.
        reply: reads the language and the text of an attempt.
        calibration: what the model's probabilities are worth; None takes them as they are.
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

    def segment(self, piece: ChunkRequest, outcome: FallbackResult) -> Segment:
        """The segment of a piece.

        Args:
            piece: as the recording gave it.
            outcome: what counts: one attempt at the whole piece, or one for each of its parts.
        """
        parts = [self._part(attempt) for attempt in outcome.attempts]
        chances = [pair for part in parts for pair in part.judged.word_confidences]
        known = [chance for _, chance in chances if chance is not None]
        start = piece.chunk.start / SAMPLE_RATE
        return Segment(
            start=start,
            end=(piece.chunk.start + len(piece.chunk.samples)) / SAMPLE_RATE,
            text=join_texts(part.text for part in parts),
            language=_language(parts),
            tokens=tuple(token for part in parts for token in part.attempt.tokens),
            logprobs=tuple(value for part in parts for value in part.attempt.logprobs),
            finish_reason=_reason(part.attempt.reason for part in parts),
            speaker=piece.chunk.speaker,
            token_confidences=tuple(c for part in parts for c in part.judged.token_confidences),
            word_confidences=tuple(chances),
            confidence=math.fsum(known) / len(known) if known else None,
            calibrated=self._calibration is not None,
            no_speech=all(part.judged.no_speech for part in parts),
            no_speech_probability=_least(part.judged.no_speech_probability for part in parts),
            retries=outcome.retries,
        )

    def _part(self, attempt: DecodeResult) -> _Part:
        reply = self._reply(attempt)
        return _Part(attempt, reply, judge(self._tokenizer, attempt, reply, self._calibration))


def _language(parts: Iterable[_Part]) -> str | None:
    """The language of most of the text; without any, the one that was named first."""
    letters: dict[str, int] = {}
    for part in parts:
        language = None if part.judged.no_speech else part.reply.language
        if language is not None:
            letters[language] = letters.get(language, 0) + len(part.text)
    return max(letters, key=lambda name: letters[name], default=None)


def _reason(reasons: Iterable[FinishReason]) -> FinishReason:
    return next((reason for reason in reasons if reason != "stop"), "stop")


def _least(chances: Iterable[float | None]) -> float | None:
    known = [chance for chance in chances if chance is not None]
    return min(known, default=None)
