"""Language identification: the probability of every language that the decoder may name."""

from __future__ import annotations

import math

from auris.audio.io import Source, load
from auris.decoding.constrained import score_prefixes
from auris.errors import UnsupportedOption
from auris.recognition.fallback import check_scores
from auris.recognition.qwen import QwenRecognizer
from auris.recognition.recognizer import Recognizer, encode_samples
from auris.text.languages import LANGUAGES
from auris.text.prompt import prompt_ids, reply_prefix

DETECT_SECONDS = 30.0
"""How many seconds of a recording are used by default."""


def language_probabilities(
    recognizer: Recognizer,
    source: Source,
    start: float = 0.0,
    duration: float | None = DETECT_SECONDS,
) -> list[tuple[str | None, float]]:
    """How likely each language is spoken in a span of a recording.

    Args:
        start, duration: the span in seconds; a duration of None is the rest.

    Returns:
        English names, None for no speech, and their probabilities, the likeliest first; they add
        up to 1.

    Raises:
        UnsupportedOption: the model has a CTC head only.
        AudioError: the recording cannot be read.
    """
    if not isinstance(recognizer, QwenRecognizer):
        raise UnsupportedOption(
            "Language identification needs a model with a decoder",
            "this model has a CTC head only",
            "choose a Qwen3-ASR model",
        )
    waveform = load(source, start=start, duration=duration)
    tokenizer, backend = recognizer.tokenizer, recognizer.backend
    states = encode_samples(backend, recognizer.config, waveform.samples)
    prompt = backend.embed(prompt_ids(tokenizer, len(states)), states)
    names = [*LANGUAGES.values(), None]
    prefixes = [reply_prefix(tokenizer, name) for name in names]
    cache = backend.new_cache(1, len(prompt) + max(map(len, prefixes)))
    backend.admit(cache)
    logits = backend.extend(cache, [prompt])[0, -1]
    scored = score_prefixes(backend, cache, 0, logits, prefixes)
    check_scores([prefix.logprob for prefix in scored])
    # Normalized over these prefixes: the rest is mostly the probability of other spellings.
    most = max(prefix.logprob for prefix in scored)
    weights = [math.exp(prefix.logprob - most) for prefix in scored]
    probabilities = [weight / math.fsum(weights) for weight in weights]
    return sorted(zip(names, probabilities, strict=True), key=lambda pair: -pair[1])
