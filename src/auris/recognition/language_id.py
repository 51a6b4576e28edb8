"""Which language is spoken: what a model with a decoder would answer, with its chances."""

from __future__ import annotations

import math

from auris.audio.features import log_mel
from auris.audio.io import Source, load
from auris.decoding.constrained import score_prefixes
from auris.errors import UnsupportedOption
from auris.recognition.fallback import check_scores
from auris.recognition.qwen import QwenRecognizer
from auris.recognition.recognizer import Recognizer
from auris.text.languages import LANGUAGES
from auris.text.prompt import opening_ids, prompt_ids

__all__ = ["DETECT_SECONDS", "language_chances"]

DETECT_SECONDS = 30.0
"""Seconds of a recording that its language is told from."""


def language_chances(
    recognizer: Recognizer,
    source: Source,
    start: float = 0.0,
    duration: float | None = DETECT_SECONDS,
) -> list[tuple[str | None, float]]:
    """Chances of every language, see `AsrPipeline.detect_language`."""
    if not isinstance(recognizer, QwenRecognizer):
        raise UnsupportedOption(
            "Telling languages apart needs a model with a decoder",
            "this model has a CTC head only",
            "choose a Qwen3-ASR model",
        )
    waveform = load(source, start=start, duration=duration)
    config, tokenizer, backend = recognizer.config, recognizer.tokenizer, recognizer.backend
    (states,) = backend.encode(
        [log_mel(waveform.samples, config.frontend, config.encoder.mel_bins)]
    )
    prompt = backend.embed(prompt_ids(tokenizer, len(states)), states)
    names = [*LANGUAGES.values(), None]
    openings = [opening_ids(tokenizer, name) for name in names]
    cache = backend.new_cache(1, len(prompt) + max(map(len, openings)))
    backend.admit(cache)
    logits = backend.extend(cache, [prompt])[0, -1]
    scored = score_prefixes(backend, cache, 0, logits, openings)
    check_scores([opening.logprob for opening in scored])
    # Shares of what the model gives to any of them; most of the rest are other spellings.
    most = max(opening.logprob for opening in scored)
    weights = [math.exp(opening.logprob - most) for opening in scored]
    chances = [weight / math.fsum(weights) for weight in weights]
    return sorted(zip(names, chances, strict=True), key=lambda pair: -pair[1])
