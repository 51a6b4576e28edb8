"""Segments from decode results: text, language, confidences, retries, times of words, clean-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from auris.checkpoints.calibration import NO_CALIBRATIONS, Calibrations
from auris.recognition.confidence import ResultConfidence, score_result
from auris.recognition.fallback import FallbackResult
from auris.recognition.requests import ChunkRequest, DecodeResult, timed
from auris.text.cleanup import clean
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, Chunk, Segment


@dataclass(frozen=True)
class _Part:
    """One result of a chunk, its reply and its confidences."""

    result: DecodeResult
    reply: Reply
    confidence: ResultConfidence

    @property
    def text(self) -> str:
        return "" if self.confidence.no_speech else self.reply.text


@dataclass(frozen=True)
class SegmentWriter:
    """Writes segments; `reply` extracts the language and the text of a result."""

    tokenizer: Tokenizer
    reply: Callable[[DecodeResult], Reply]
    calibrations: Calibrations

    def segment(
        self,
        request: ChunkRequest,
        fallback: FallbackResult,
        timings: dict[str, float],
        partial: bool = False,
    ) -> Segment:
        """The segment of a chunk: text, confidences, times of words, clean-up.

        Words get times before the clean-up, since they are words of the model's own text.

        Args:
            fallback: the results that count, one for the chunk or one for each of its parts.
            timings: receives the time of the alignment.
            partial: whether the chunk may still grow.
        """
        segment = self._decoded(request.chunk, fallback)
        options = request.options
        if options.aligner is not None and (options.align_partial or not partial):
            with timed("align", timings):
                states = None if request.encoded is None else request.encoded.states
                segment = options.aligner.with_words(segment, request.chunk.samples, states)
        if options.clean:
            text = clean(segment.text, options.clean, segment.language)
            segment = replace(segment, text=text)
        return segment

    def _decoded(self, chunk: Chunk, fallback: FallbackResult) -> Segment:
        parts = [self._part(result) for result in fallback.results]
        confidences = [part.confidence for part in parts]
        words = [pair for confidence in confidences for pair in confidence.word_confidences]
        known = [confidence for _, confidence in words if confidence is not None]
        reasons = (part.result.reason for part in parts)
        silences = (confidence.no_speech_probability for confidence in confidences)
        return Segment(
            start=chunk.start / SAMPLE_RATE,
            end=(chunk.start + len(chunk.samples)) / SAMPLE_RATE,
            text=join_texts(part.text for part in parts),
            language=_language(parts),
            tokens=tuple(token for part in parts for token in part.result.tokens),
            logprobs=tuple(value for part in parts for value in part.result.logprobs),
            finish_reason=next((reason for reason in reasons if reason != "stop"), "stop"),
            speaker=chunk.speaker,
            token_confidences=tuple(c for one in confidences for c in one.token_confidences),
            word_confidences=tuple(words),
            confidence=math.fsum(known) / len(known) if known else None,
            calibrated=self.calibrations != NO_CALIBRATIONS,
            no_speech=all(confidence.no_speech for confidence in confidences),
            no_speech_probability=min((p for p in silences if p is not None), default=None),
            retries=fallback.retries,
        )

    def _part(self, result: DecodeResult) -> _Part:
        reply = self.reply(result)
        calibration = self.calibrations.of_beam(result.request.options.beam_size)
        confidence = score_result(self.tokenizer, result, reply, calibration)
        return _Part(result, reply, confidence)


def _language(parts: Iterable[_Part]) -> str | None:
    """The language of most of the text; if there is no text, the first one that was recognized."""
    letters: dict[str, int] = {}
    for part in parts:
        language = None if part.confidence.no_speech else part.reply.language
        if language is not None:
            letters[language] = letters.get(language, 0) + len(part.text)
    return max(letters, key=lambda name: letters[name], default=None)
