"""The recognizer of models with a CTC head and no decoder; several chunks take one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from torch import Tensor

from auris.backends.base import Backend
from auris.checkpoints.calibration import NO_CALIBRATIONS, Calibrations
from auris.checkpoints.validation import check_language, check_vocabulary
from auris.config import AutConfig, AutCtcConfig
from auris.decoding.ctc import blank_logprob, greedy
from auris.decoding.ctc_beam import beam_search
from auris.decoding.phrase_placing import PhrasePlacer
from auris.errors import UnsupportedOption
from auris.recognition.fallback import FallbackResult, check_scores
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.recognizer import encode_requests, pass_size
from auris.recognition.requests import (
    ChunkRequest,
    ChunkResult,
    DecodeOptions,
    DecodeResult,
    timed,
)
from auris.recognition.scorers import TextScorers
from auris.recognition.segments import SegmentWriter
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.types import Segment

PASS_SECONDS = 40.0
"""Audio of one pass, so that others do not wait for long; more at once is hardly faster."""

SCORED_BEAM_SIZE = 16
"""Least size of a beam with scores from outside the model, which costs little here."""


class CtcRecognizer:
    """An encoder with a CTC head.

    Args:
        calibrations: map log-probabilities to confidences; without one, confidences are the
            probabilities.
        lm: scores texts in the search; None for none.

    Raises:
        ConfigError: the tokenizer has another number of units than the head.
    """

    def __init__(
        self,
        backend: Backend,
        config: AutCtcConfig,
        tokenizer: Tokenizer,
        calibrations: Calibrations = NO_CALIBRATIONS,
        lm: WeightedLanguageModel | None = None,
    ) -> None:
        self.backend = backend
        self.config = config
        self.tokenizer = tokenizer
        check_vocabulary(config, tokenizer)
        self.scorers = TextScorers(tokenizer, lm)
        self._writer = SegmentWriter(tokenizer, self._reply, calibrations)

    def with_window(self, backend: Backend, encoder: AutConfig) -> CtcRecognizer:
        other = copy(self)
        other.backend, other.config = backend, replace(self.config, encoder=encoder)
        return other

    def check(self, options: DecodeOptions) -> None:
        needs_decoder = {
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
        return self._segment(result, {})

    def results(self, requests: Sequence[ChunkRequest]) -> list[ChunkResult]:
        """Recognize chunks in one pass of the encoder."""
        timings: list[dict[str, float]] = [{} for _ in requests]
        encoded = encode_requests(self.backend, self.config, requests, timings)
        return [
            self._result(request, states, times)
            for request, states, times in zip(requests, encoded, timings, strict=True)
        ]

    def _result(
        self, request: ChunkRequest, states: Tensor, timings: dict[str, float]
    ) -> ChunkResult:
        with timed("decode", timings):
            logits = None if request.encoded is None else request.encoded.logits
            if logits is None:
                (logits,) = self.backend.ctc_logits([states])
            decoded = self.decoded(request, logits)
        return ChunkResult(request.key, self._segment(decoded, timings), timings)

    def decoded(self, request: ChunkRequest, logits: Tensor) -> DecodeResult:
        """The text of a chunk, from its unit scores [N, units + 1]."""
        options, blank = request.options, self.config.blank
        scorer = self.scorers.of_units(options)
        if options.beam_size == 1:
            path = greedy(logits, blank)
        else:
            size = max(options.beam_size, SCORED_BEAM_SIZE if scorer is not None else 1)
            path = beam_search(logits, blank, size, scorer)
        phrases = self.scorers.placed_phrases(options, logits)
        if phrases:
            placer = PhrasePlacer(logits, blank, self.tokenizer.bytes, scorer)
            path = placer.write(path, phrases)
        return DecodeResult(request, path.ids, path.logprobs, "stop", blank_logprob(logits, blank))

    def _segment(
        self, result: DecodeResult, timings: dict[str, float], partial: bool = False
    ) -> Segment:
        check_scores(result.logprobs)
        return self._writer.segment(result.request, FallbackResult((result,)), timings, partial)

    def _reply(self, result: DecodeResult) -> Reply:
        text = self.tokenizer.decode(result.tokens).strip()
        return Reply(self.config.language if text else None, text)


class CtcBatch:
    """Chunks for a CTC model; a step is one pass over some of them."""

    def __init__(self, recognizer: CtcRecognizer, rows: int) -> None:
        self._recognizer = recognizer
        self._rows = rows
        self._waiting: deque[ChunkRequest] = deque()

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def has_room(self) -> bool:
        waiting = len(self._waiting)
        return waiting < self._rows and pass_size(self._waiting, PASS_SECONDS) == waiting

    def add(self, request: ChunkRequest) -> None:
        self._waiting.append(request)

    def step(self) -> list[ChunkResult]:
        # A chunk that is encoded already gains nothing from a pass with others.
        encoded = bool(self._waiting) and self._waiting[0].encoded is not None
        size = 1 if encoded else pass_size(self._waiting, PASS_SECONDS)
        group = [self._waiting.popleft() for _ in range(size)]
        return self._recognizer.results(group) if group else []

    def cancel(self) -> list[ChunkResult]:
        """Drop the waiting chunks; no chunk is in progress between two steps."""
        self._waiting.clear()
        return []
