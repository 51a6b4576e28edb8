"""Requests to a recognizer and its results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from auris.decoding.loop import never
from auris.decoding.sampling import Sampling
from auris.types import Chunk, Samples, Segment

__all__ = ["ChunkRequest", "ChunkResult", "DecodeOptions", "WordAligner", "add_time"]


@runtime_checkable
class WordAligner(Protocol):
    """Gives the words of a segment their times, see `auris.alignment`."""

    def check(self, language: str | None) -> None:
        """Refuse a language that the aligner does not know.

        Raises:
            LanguageError, UnsupportedOption: it does not.
        """

    def with_words(self, segment: Segment, samples: Samples) -> Segment:
        """The segment with its words, placed in the float32 samples [S] of its chunk."""


@dataclass(frozen=True)
class DecodeOptions:
    """How a recording is transcribed.

    Attributes:
        language: English name to force, or None for the model's choice.
        context: words and names to expect.
        max_new_tokens: token budget of a chunk, or None for one that follows its length.
        sampling: how tokens are chosen.
        clean: clean-up of the text, see `auris.text.cleanup`.
        languages: English names of those that the model may choose from, beside saying that nobody
            speaks; None leaves its choice free.
        batch_seconds: most seconds of audio in one batch; a longer chunk is decoded alone.
        warnings: options that are ignored, in sentences, for the transcript.
        aligner: places the words of each segment; None leaves them without times.
        align_partial: whether words of a live chunk that is not over have times, too.
    """

    language: str | None = None
    context: str = ""
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    clean: tuple[str, ...] = ()
    languages: tuple[str, ...] | None = None
    batch_seconds: float = math.inf
    warnings: tuple[str, ...] = ()
    aligner: WordAligner | None = field(default=None, compare=False)
    align_partial: bool = False


@dataclass(frozen=True)
class ChunkRequest:
    """A chunk of audio to recognize.

    Attributes:
        key: names it in the results.
        chunk: the audio.
        options: how it is transcribed.
        cancelled: says whether the result is still needed; once it says true, decoding stops.
    """

    key: int
    chunk: Chunk
    options: DecodeOptions
    cancelled: Callable[[], bool] = never


@dataclass(frozen=True)
class ChunkResult:
    """A chunk's segment, and seconds of work by stage."""

    key: int
    segment: Segment
    timings: dict[str, float]


def add_time(timings: dict[str, float], stage: str, began: float) -> float:
    """Add the time since `began` to a stage; returns the time now."""
    now = time.perf_counter()
    timings[stage] = timings.get(stage, 0.0) + now - began
    return now
