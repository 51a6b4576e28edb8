"""The recognizer of models with a CTC head and no decoder; a chunk takes one pass."""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import replace

from auris.backends.base import Backend
from auris.checkpoints.calibration import Calibration
from auris.checkpoints.validation import check_language, check_vocabulary
from auris.config import AutConfig, AutCtcConfig
from auris.decoding.ctc import blank_logprob, greedy
from auris.errors import UnsupportedOption
from auris.recognition.fallback import FallbackResult, check_scores
from auris.recognition.recognizer import encode_samples
from auris.recognition.requests import (
    ChunkRequest,
    ChunkResult,
    DecodeOptions,
    DecodeResult,
    timed,
)
from auris.recognition.segments import SegmentWriter
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.types import Segment


class CtcRecognizer:
    """An encoder with a CTC head.

    Args:
        calibration: maps log-probabilities to confidences; None uses the probabilities.

    Raises:
        ConfigError: the tokenizer has another number of units than the head.
    """

    def __init__(
        self,
        backend: Backend,
        config: AutCtcConfig,
        tokenizer: Tokenizer,
        calibration: Calibration | None = None,
    ) -> None:
        self.backend = backend
        self.config = config
        self.tokenizer = tokenizer
        check_vocabulary(config, tokenizer)
        self._writer = SegmentWriter(tokenizer, self._reply, calibration)

    def with_window(self, backend: Backend, encoder: AutConfig) -> CtcRecognizer:
        other = copy(self)
        other.backend, other.config = backend, replace(self.config, encoder=encoder)
        return other

    def check(self, options: DecodeOptions) -> None:
        needs_decoder = {
            "--context": options.context != "",
            "--max-new-tokens": options.max_new_tokens is not None,
            "--temperature": options.sampling.temperature != 0.0,
        }
        for option, given in needs_decoder.items():
            if given:
                raise UnsupportedOption(
                    f"{option} needs a model with a decoder",
                    "this model has a CTC head only",
                    "leave the option out, or choose a Qwen3-ASR model",
                )
        if options.languages is None or self.config.language not in options.languages:
            for language in options.languages or [options.language]:
                check_language(self.config, language)
        if options.aligner is not None:
            options.aligner.check(options.language)

    def batch(self, rows: int) -> CtcBatch:
        return CtcBatch(self)

    def partial(self, result: DecodeResult) -> Segment:
        return self._segment(result, {}, partial=True)

    def final(self, result: DecodeResult) -> Segment:
        """The final segment; a CTC path needs no fallback."""
        return self._segment(result, {})

    def result(self, request: ChunkRequest) -> ChunkResult:
        """Recognize one chunk."""
        timings: dict[str, float] = {}
        states = encode_samples(self.backend, self.config, request.chunk.samples, timings)
        with timed(timings, "decode"):
            (logits,) = self.backend.ctc_logits([states])
            path = greedy(logits, self.config.blank)
        silence = blank_logprob(logits, self.config.blank)
        decoded = DecodeResult(request, path.ids, path.logprobs, "stop", silence)
        return ChunkResult(request.key, self._segment(decoded, timings), timings)

    def _segment(
        self, result: DecodeResult, timings: dict[str, float], partial: bool = False
    ) -> Segment:
        check_scores(result.logprobs)
        return self._writer.segment(result.request, FallbackResult((result,)), timings, partial)

    def _reply(self, result: DecodeResult) -> Reply:
        text = self.tokenizer.decode(result.tokens).strip()
        return Reply(self.config.language if text else None, text)


class CtcBatch:
    """Chunks for a CTC model, recognized one after the other."""

    def __init__(self, recognizer: CtcRecognizer) -> None:
        self._recognizer = recognizer
        self._waiting: deque[ChunkRequest] = deque()

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def has_room(self) -> bool:
        return not self._waiting

    def add(self, request: ChunkRequest) -> None:
        self._waiting.append(request)

    def step(self) -> list[ChunkResult]:
        return [self._recognizer.result(self._waiting.popleft())] if self._waiting else []

    def cancel(self) -> list[ChunkResult]:
        """Drop the waiting chunks; no chunk is in progress between two steps."""
        self._waiting.clear()
        return []
