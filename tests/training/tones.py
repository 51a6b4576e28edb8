"""Small recordings in which every letter is a tone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from auris.training.data import TrainingClip
from auris.types import SAMPLE_RATE, Samples

TONES = {"a": 400.0, "b": 800.0, "c": 1600.0, "d": 3200.0}
LETTER_SECONDS = 0.25


def tones(text: str, seconds: float = LETTER_SECONDS) -> Samples:
    """A recording of `text`; spaces are silent."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    parts = [0.3 * np.sin(2 * np.pi * TONES.get(letter, 0.0) * times) for letter in text]
    return np.concatenate(parts).astype(np.float32)


def tone_clip(text: str, speaker: str = "") -> TrainingClip:
    """A clip in memory, without units."""
    return TrainingClip(text, (tones(text) * 32767).astype(np.int16), text, speaker)


def write_wav(path: Path, samples: Samples) -> None:
    """A 16-bit WAV file."""
    integers = (samples * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(integers[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
