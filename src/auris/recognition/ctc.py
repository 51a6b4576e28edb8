"""The recognizer of models with a CTC head and no decoder: every chunk is one pass."""

from __future__ import annotations

import time
from collections import deque

from auris.audio.features import log_mel
from auris.backends.base import Backend
from auris.checkpoints.calibration import Calibration
from auris.checkpoints.validation import check_language, check_vocabulary
from auris.config import AutCtcConfig
from auris.decoding.ctc import blank_logprob, greedy
from auris.errors import UnsupportedOption
from auris.recognition.fallback import DecodeResult, FallbackResult, check_scores
from auris.recognition.recognizer import finish_segment
from auris.recognition.requests import ChunkRequest, ChunkResult, DecodeOptions, add_time
from auris.recognition.segments import SegmentWriter
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.types import Segment

__all__ = ["CtcRecognizer"]


class CtcRecognizer:
    """An encoder with a CTC head: every chunk is one pass.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its text units.
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

    def check(self, options: DecodeOptions) -> None:
        """Check the options.

        Raises:
            UnsupportedOption: they have a context, a token budget, a temperature or a language
                that is not the model's.
        """
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
        return CtcBatch(self, rows)

    def partial(self, result: DecodeResult) -> Segment:
        return self._segment(result, {}, partial=True)

    def final(self, result: DecodeResult) -> Segment:
        """The final segment; a CTC path needs no fallback."""
        return self._segment(result, {}, partial=False)

    def result(self, request: ChunkRequest) -> ChunkResult:
        """Recognize one chunk."""
        timings: dict[str, float] = {}
        now = time.perf_counter()
        config = self.config
        features = log_mel(request.chunk.samples, config.frontend, config.encoder.mel_bins)
        now = add_time(timings, "mel", now)
        states = self.backend.encode([features])
        now = add_time(timings, "encode", now)
        (logits,) = self.backend.ctc_logits(states)
        path = greedy(logits, config.blank)
        add_time(timings, "decode", now)
        silence = blank_logprob(logits, config.blank)
        decoded = DecodeResult(request, path.ids, path.logprobs, "stop", silence)
        return ChunkResult(request.key, self._segment(decoded, timings, partial=False), timings)

    def _segment(self, result: DecodeResult, timings: dict[str, float], partial: bool) -> Segment:
        check_scores(result.logprobs)
        request = result.request
        segment = self._writer.segment(request, FallbackResult((result,)))
        return finish_segment(segment, request.chunk.samples, request.options, timings, partial)

    def _reply(self, result: DecodeResult) -> Reply:
        text = self.tokenizer.decode(result.tokens).strip()
        return Reply(self.config.language if text else None, text)


class CtcBatch:
    """Chunks for a CTC model, one after the other: each is a single pass."""

    def __init__(self, recognizer: CtcRecognizer, rows: int) -> None:
        self._recognizer = recognizer
        self._rows = rows
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
        """Drop the waiting chunks; between two steps no chunk is under way."""
        self._waiting.clear()
        return []
