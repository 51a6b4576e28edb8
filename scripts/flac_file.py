"""FLAC files of the scripts that make recordings."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000


def write_flac(path: Path, samples: NDArray[np.float32]) -> None:
    """16-bit FLAC at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    integers = np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(integers[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
