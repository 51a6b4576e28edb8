"""Recordings for tests of the pipeline, and the comparable parts of transcripts."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from auris import Transcript
from tests.tiny_models import tone_speech

RATE = 16_000
BUDGET = 12
"""Tokens a piece, so that tests are quick."""

INEXACT = (
    "avg_logprob",
    "confidence",
    "token_confidences",
    "word_confidences",
    "no_speech_probability",
)
"""What may differ in its last digits."""

Array = tuple[np.ndarray, int]


def clip(seconds: float, seed: int = 0) -> Array:
    return tone_speech(seconds, seed), RATE


def write_wav(path: Path, seconds: float, seed: int = 0) -> Path:
    samples = (tone_speech(seconds, seed) * 20_000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def tokens(transcript: Transcript) -> list[tuple[int, ...]]:
    return [segment.tokens for segment in transcript.segments]


def plain(transcript: Transcript) -> dict[str, Any]:
    """The values that must be equal in every run: all except durations of work and last digits."""
    content = transcript.to_dict()
    content.pop("timings")
    confidence = content.pop("confidence")
    assert confidence is None or 0.0 <= confidence <= 1.0
    for segment in content["segments"]:
        for inexact in INEXACT:
            segment.pop(inexact)
    return content
