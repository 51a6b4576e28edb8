"""Requests to a recognizer and its results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

from torch import Tensor

from auris.decoding.repetition import cut_loop
from auris.decoding.requests import Step, never
from auris.decoding.sampling import Sampling
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, Chunk, FinishReason, Retry, RetryCause, Samples, Segment


@runtime_checkable
class WordAligner(Protocol):
    """Finds the times of the words of a segment, see `auris.alignment`."""

    def check(self, language: str | None) -> None:
        """Raise LanguageError or UnsupportedOption for a language that it does not know."""

    def with_words(
        self, segment: Segment, samples: Samples, states: Tensor | None = None
    ) -> Segment:
        """The segment with its words, aligned with the float32 samples [S] of its chunk.

        Args:
            states: encoder output [N, d_model] of the chunk by the model that wrote the segment;
                None if it is not known. An aligner of the same model need not compute it again.
        """


@dataclass(frozen=True)
class DecodeOptions:
    """How a recording is transcribed: options of `auris.recognition.options` that are checked.

    Attributes:
        language: English name to force, or None for the model's choice.
        languages: English names of the languages that the model may choose from; None allows all.
            It may always report that there is no speech.
        warnings: sentences for the transcript about options that are ignored.
        aligner: finds the times of the words of each segment; None leaves them out.
        align_partial: whether words of a live chunk that may still grow have times, too.
        beam_size: hypotheses that are followed at a time; 1 takes the best token at every step.
        hotwords: words and phrases that are written more readily.
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
    beam_size: int = 1
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedChunk:
    """What was computed of a chunk already.

    Attributes:
        states: encoder output [N, d_model].
        logits: unit scores [N, units + 1] of a CTC head, blank last; None if they were not
            computed.
    """

    states: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class ChunkRequest:
    """A chunk to recognize.

    Attributes:
        key: names it in the results.
        chunk: its samples.
        options: how it is transcribed.
        cancelled: once it returns True, decoding stops.
        encoded: what was computed of it already; None if it has to be encoded.
    """

    key: int
    chunk: Chunk
    options: DecodeOptions
    cancelled: Callable[[], bool] = never
    encoded: EncodedChunk | None = field(default=None, compare=False, repr=False)

    @property
    def seconds(self) -> float:
        """Length of the chunk."""
        return len(self.chunk.samples) / SAMPLE_RATE

    @property
    def share(self) -> float:
        """The part of a batch that the chunk takes, see `auris.decoding.requests.Request`."""
        return self.seconds / self.options.batch_seconds


@dataclass(frozen=True)
class DecodeResult:
    """The result of decoding a chunk once.

    Attributes:
        request: the chunk and the options with which it was decoded.
        tokens: without the stop token.
        logprobs: natural-log probability of each token.
        reason: why the decoding ended.
        silence_logprob: natural-log probability that the model reports no speech; None if it was
            not computed. For CTC models see `auris.decoding.ctc.blank_logprob`.
    """

    request: ChunkRequest
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: FinishReason
    silence_logprob: float | None = None

    def text_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The tokens of the text. A loop is cut after its first repeat, at the end of a word."""
        loop = cut_loop(self.tokens) if self.reason in ("loop", "cancelled") else None
        if loop is None:
            return self.tokens
        first, end, _ = loop
        spelled = [tokenizer.content(token) for token in self.tokens[end - 1 : 2 * end - first]]
        for offset, (before, after) in enumerate(pairwise(spelled)):
            if before[-1:].isspace() or after[:1].isspace():
                return self.tokens[: end + offset]
        return self.tokens[:end]

    def retry(self, cause: RetryCause) -> Retry:
        """The record of this result when it is discarded and the chunk is decoded again."""
        chunk = self.request.chunk
        end = (chunk.start + len(chunk.samples)) / SAMPLE_RATE
        return Retry(chunk.start / SAMPLE_RATE, end, cause, self.tokens)


@dataclass
class DecodedTokens:
    """The tokens of a request while it is decoded."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    silence_logprob: float | None = None

    def add(self, step: Step) -> None:
        """Add a step of the decode loop."""
        if step.probe_logprob is not None:
            self.silence_logprob = step.probe_logprob
        if step.token is not None:
            self.tokens.append(step.token)
            self.logprobs.append(step.logprob)

    def result(self, request: ChunkRequest, reason: FinishReason) -> DecodeResult:
        """The result, with the reason why the decoding ended."""
        tokens, logprobs = tuple(self.tokens), tuple(self.logprobs)
        return DecodeResult(request, tokens, logprobs, reason, self.silence_logprob)


@dataclass(frozen=True)
class ChunkResult:
    """A chunk's segment, and seconds of work by stage."""

    key: int
    segment: Segment
    timings: dict[str, float]


@contextmanager
def timed(stage: str, *timings: dict[str, float]) -> Iterator[None]:
    """Add the time of a `with` block to a stage, divided among those who share the work."""
    began = time.perf_counter()
    yield
    seconds = (time.perf_counter() - began) / len(timings)
    for one in timings:
        one[stage] = one.get(stage, 0.0) + seconds
