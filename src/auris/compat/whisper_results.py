"""Segments and words in the shape of faster-whisper."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auris import types
from auris.text.words import compression_ratio, spaceless

__all__ = ["TranscriptionInfo", "WhisperSegment", "WhisperWord", "reported", "whisper_segments"]

FRAMES_PER_SECOND = 100
"""Unit of `WhisperSegment.seek`."""


@dataclass(frozen=True)
class WhisperWord:
    """A word; `word` begins with a space in scripts that have spaces, `probability` is its
    confidence, NaN where the aligner gives none."""

    start: float
    end: float
    word: str
    probability: float


@dataclass(frozen=True)
class WhisperSegment:
    """The result of one chunk.

    Attributes:
        id: counted from 1.
        seek: where it begins, in hundredths of a second.
        start: its beginning, in seconds.
        end: its end.
        text: begins with a space in scripts that have spaces, so that texts can be joined.
        tokens: ids as decoded.
        avg_logprob: mean log-probability of the tokens; NaN without tokens.
        compression_ratio: length of the text over its compressed length.
        no_speech_prob: how likely there is no speech; NaN where the model does not say.
        words: with their times, where requested; those whose times are not known are left out.
        temperature: that of the call.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[WhisperWord] | None
    temperature: float


@dataclass(frozen=True)
class TranscriptionInfo:
    """What is known of a recording before its segments.

    Attributes:
        language: code of the language that was forced, or of the first chunk; None where that
            holds no speech.
        language_probability: 1 when forced; else as the decoder has it for the first 30 seconds,
            NaN for a model without one.
        duration: seconds of the recording.
        duration_after_vad: those that are left without long silence, where it is left out.
        all_language_probs: codes with their probabilities, the likeliest first; None where the
            language is forced or the model does not say.
        vad_options: None.
        transcription_options: the options of the call that were given.
    """

    language: str | None
    language_probability: float
    duration: float
    duration_after_vad: float
    all_language_probs: list[tuple[str, float]] | None
    transcription_options: Mapping[str, Any]
    vad_options: None


def whisper_segments(
    segments: Iterable[types.Segment], temperature: float
) -> Iterator[WhisperSegment]:
    """The segments that hold text."""
    spoken = (segment for segment in segments if segment.text)
    for number, segment in enumerate(spoken, 1):
        text = _spaced(segment.text)
        yield WhisperSegment(
            id=number,
            seek=round(segment.start * FRAMES_PER_SECOND),
            start=segment.start,
            end=segment.end,
            text=text,
            tokens=list(segment.tokens),
            avg_logprob=_number(segment.avg_logprob),
            compression_ratio=compression_ratio(text),
            no_speech_prob=_number(segment.no_speech_probability),
            words=_words(segment),
            temperature=temperature,
        )


def reported(segments: Iterable[types.Segment], duration: float) -> Iterator[types.Segment]:
    """The same segments; a line on standard error shows up to which second they reach."""
    for segment in segments:
        if sys.stderr is not None:
            sys.stderr.write(f"\r{segment.end:.2f}/{duration:.2f} seconds")
        yield segment
    if sys.stderr is not None:
        sys.stderr.write("\n")


def _spaced(text: str) -> str:
    """A text with a space before it, unless its script has none."""
    return text if spaceless(text[0]) else f" {text}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _words(segment: types.Segment) -> list[WhisperWord] | None:
    if segment.words is None:
        return None
    return [
        WhisperWord(word.start, word.end, _spaced(word.text), _number(word.confidence))
        for word in segment.words
        if word.start is not None and word.end is not None
    ]
