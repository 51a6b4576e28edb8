"""What every kind of model offers: chunks in, segments out."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from auris.audio.features import log_mel
from auris.backends.base import Backend, MarkBackend
from auris.config import AlignerConfig, AutConfig, AutCtcConfig, QwenAsrConfig
from auris.recognition.requests import (
    ChunkRequest,
    ChunkResult,
    DecodeOptions,
    DecodeResult,
    timed,
)
from auris.text.tokenizer import Tokenizer
from auris.types import Samples, Segment


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
        """End all work; returns the chunks in progress with what was decoded so far."""


class Recognizer(Protocol):
    """A model of any kind."""

    @property
    def config(self) -> AutCtcConfig | QwenAsrConfig:
        """The model's shapes."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""

    def with_window(self, backend: Backend, encoder: AutConfig) -> Recognizer:
        """A recognizer of the same model over a backend with another attention window."""

    def check(self, options: DecodeOptions) -> None:
        """Refuse options that the model does not support, before any work.

        Raises:
            UnsupportedOption, LanguageError, UsageError: one is not supported.
        """

    def batch(self, rows: int) -> ChunkBatch:
        """A new batch of up to `rows` chunks at once."""

    def partial(self, result: DecodeResult) -> Segment:
        """The segment of one decoding without fallback, for a live chunk that may still grow."""

    def final(self, result: DecodeResult) -> Segment:
        """The segment of a chunk whose first decoding was done elsewhere; fallback is done here.

        It equals the segment of a batch for this first decoding. A missing `silence_logprob` is
        computed.
        """


def recognize(recognizer: Recognizer, request: ChunkRequest) -> ChunkResult:
    """Recognize one chunk alone."""
    batch = recognizer.batch(1)
    batch.add(request)
    done: list[ChunkResult] = []
    while not done:
        done = batch.step()
    return done[0]


def encode_samples(
    backend: Backend | MarkBackend,
    config: AutCtcConfig | QwenAsrConfig | AlignerConfig,
    samples: Samples,
    timings: dict[str, float] | None = None,
) -> Tensor:
    """Encoder output [N, d_model] of float32 samples [S]; `timings` receives the times."""
    timings = {} if timings is None else timings
    with timed(timings, "mel"):
        features = log_mel(samples, config.frontend, config.encoder.mel_bins)
    with timed(timings, "encode"):
        (states,) = backend.encode([features])
    return states
