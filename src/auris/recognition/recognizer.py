"""What every kind of model offers: chunks in, segments out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
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
from auris.recognition.scorers import TextScorers
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

    @property
    def scorers(self) -> TextScorers:
        """What scores its texts from outside the model."""

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


def pass_size(requests: Sequence[ChunkRequest], seconds: float) -> int:
    """How many of the first requests one pass takes: as many as have `seconds` of audio together
    and fit in a batch, and one that is longer."""
    total = share = 0.0
    for count, request in enumerate(requests):
        total += request.seconds
        share += request.share
        if count and (total > seconds or share > 1.0 + 1e-9):
            return count
    return len(requests)


def encode_samples(
    backend: Backend | MarkBackend,
    config: AutCtcConfig | QwenAsrConfig | AlignerConfig,
    samples: Samples,
) -> Tensor:
    """Encoder output [N, d_model] of float32 samples [S]."""
    (states,) = encode_together(backend, config, [samples], [{}])
    return states


def encode_requests(
    backend: Backend,
    config: AutCtcConfig | QwenAsrConfig,
    requests: Sequence[ChunkRequest],
    timings: Sequence[dict[str, float]],
) -> list[Tensor]:
    """Encoder output [N_i, d_model] of chunks; those that are not encoded yet are, in one pass.

    Args:
        timings: receive the times, one for each chunk.
    """
    pairs = zip(requests, timings, strict=True)
    unknown = [(one.chunk.samples, times) for one, times in pairs if one.encoded is None]
    computed: Iterator[Tensor] = iter(())
    if unknown:
        samples, times_of = zip(*unknown, strict=True)
        computed = iter(encode_together(backend, config, samples, times_of))
    return [one.encoded.states if one.encoded else next(computed) for one in requests]


def encode_together(
    backend: Backend | MarkBackend,
    config: AutCtcConfig | QwenAsrConfig | AlignerConfig,
    samples: Sequence[Samples],
    timings: Sequence[dict[str, float]],
) -> list[Tensor]:
    """Encoder output [N_i, d_model] of the float32 samples [S_i] of several chunks, in one pass on
    the device of the backend, features included.

    Args:
        timings: receive the times, one for each chunk.
    """
    features = []
    for chunk, times in zip(samples, timings, strict=True):
        with timed("mel", times):
            wave = torch.as_tensor(chunk, dtype=torch.float32, device=backend.device)
            features.append(log_mel(wave, config.frontend, config.encoder.mel_bins))
    with timed("encode", *timings):
        return backend.encode(features)
