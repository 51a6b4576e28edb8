"""What every kind of model offers: chunks in, segments out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from auris.config import AutCtcConfig, QwenAsrConfig
from auris.recognition.fallback import DecodeResult
from auris.recognition.requests import ChunkRequest, ChunkResult, DecodeOptions, add_time
from auris.text.cleanup import clean
from auris.text.tokenizer import Tokenizer
from auris.types import Samples, Segment

__all__ = ["ChunkBatch", "Recognizer", "finish_segment", "recognize"]


class ChunkBatch(Protocol):
    """Chunks that are recognized together. Results need not come in the order of the requests."""

    @property
    def pending(self) -> int:
        """Requests without a result."""

    def has_room(self) -> bool:
        """Whether another request can be worked on at once."""

    def add(self, request: ChunkRequest) -> None:
        """Take a request. It waits where there is no room."""

    def step(self) -> list[ChunkResult]:
        """Do some work; returns the results that it completes."""

    def cancel(self) -> list[ChunkResult]:
        """End all work; returns unfinished chunks that were begun, as far as they were decoded."""


class Recognizer(Protocol):
    """A model of any kind."""

    @property
    def config(self) -> AutCtcConfig | QwenAsrConfig:
        """The model's shapes."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""

    def check(self, options: DecodeOptions) -> None:
        """Refuse options that the model does not support, before any work."""

    def batch(self, rows: int) -> ChunkBatch:
        """A new batch of up to `rows` chunks at once."""

    def partial(self, result: DecodeResult) -> Segment:
        """The segment of one decoding, without fallback, as of a live chunk that is not over."""

    def final(self, result: DecodeResult) -> Segment:
        """The segment of a chunk that was decoded elsewhere, after any fallback that it needs.

        It equals the segment that a batch gives for a chunk with this first decoding.

        Args:
            result: of the first decoding; a missing `silence_logprob` is computed.
        """


def recognize(
    recognizer: Recognizer, requests: Iterable[ChunkRequest], rows: int = 1
) -> Iterator[ChunkResult]:
    """Recognize requests, up to `rows` at once, each taken when a row is free.

    Yields:
        results as they are completed.
    """
    batch = recognizer.batch(rows)
    waiting = iter(requests)
    exhausted = False
    while batch.pending or not exhausted:
        while not exhausted and batch.has_room():
            request = next(waiting, None)
            if request is None:
                exhausted = True
            else:
                batch.add(request)
        yield from batch.step()


def finish_segment(
    segment: Segment,
    samples: Samples,
    options: DecodeOptions,
    timings: dict[str, float],
    partial: bool = False,
) -> Segment:
    """The last steps of a segment: times of words, then the clean-up of its text.

    Clean-up comes last, because the words that have times are those of the model's own text.

    Args:
        samples: float32 [S] of its chunk.
        timings: receives the time of the alignment.
        partial: whether the chunk may still grow.
    """
    if options.aligner is not None and (options.align_partial or not partial):
        began = time.perf_counter()
        segment = options.aligner.with_words(segment, samples)
        add_time(timings, "align", began)
    if options.clean:
        segment = replace(segment, text=clean(segment.text, options.clean, segment.language))
    return segment
