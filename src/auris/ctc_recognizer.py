"""The recognizer of models with a CTC head and no decoder: every piece is one pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from auris.attempts import Attempt, Outcome, check_scores
from auris.audio.mel import log_mel
from auris.backends.base import Backend
from auris.belonging import check_language, check_vocabulary
from auris.checkpoints.calibration import Calibration
from auris.config import AutCtcConfig
from auris.decoding.ctc import blank_logprob, greedy
from auris.errors import UnsupportedOption
from auris.pieces import Options, Piece, Recognized, clock, until
from auris.segments import SegmentWriter
from auris.text.reply import Reply
from auris.text.tokenizer import Tokenizer
from auris.types import Segment

__all__ = ["CtcRecognizer"]


class CtcRecognizer:
    """An encoder with a CTC head: every piece is one pass.

    Args:
        backend: runs the model.
        config: the model's shapes.
        tokenizer: its text units.
        calibration: what the model's probabilities are worth.

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

    def check(self, options: Options) -> None:
        """See `Recognizer.check`.

        Raises:
            UnsupportedOption: a context, a budget, a temperature or another language was asked.
        """
        asked = {
            "--context": options.context != "",
            "--max-new-tokens": options.max_new_tokens is not None,
            "--temperature": options.sampling.temperature != 0.0,
        }
        for option, given in asked.items():
            if given:
                raise UnsupportedOption(
                    f"{option} needs a model with a decoder",
                    "this model has a CTC head only",
                    "leave the option out, or choose a Qwen3-ASR model",
                )
        if options.languages is None or self.config.language not in options.languages:
            for language in options.languages or [options.language]:
                check_language(self.config, language)

    def recognize(
        self, pieces: Iterable[Piece | None], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`; rows do not matter, since a piece is one pass."""
        for piece in until(pieces, cancelled):
            if piece is None:
                continue
            timings: dict[str, float] = {}
            now = time.perf_counter()
            config = self.config
            mel = log_mel(piece.chunk.samples, config.frontend, config.encoder.mel_bins)
            now = clock(timings, "mel", now)
            states = self.backend.encode([mel])
            now = clock(timings, "encode", now)
            (logits,) = self.backend.ctc_logits(states)
            path = greedy(logits, config.blank)
            clock(timings, "decode", now)
            silence = blank_logprob(logits, config.blank)
            done = self.commit(Attempt(piece, path.ids, path.logprobs, "stop", silence))
            yield replace(done, timings=timings)

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`."""
        return self._writer.segment(attempt.piece, Outcome((attempt,)))

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`: a path has no loops, no budget and no context to tell apart."""
        check_scores(attempt.logprobs)
        return Recognized(attempt.piece.key, self.provisional(attempt), {})

    def _reply(self, attempt: Attempt) -> Reply:
        text = self.tokenizer.decode(attempt.tokens).strip()
        return Reply(self.config.language if text else None, text)
