"""Where anybody speaks in a window, for a diarization without a segmentation network.

With silero-vad installed its network decides, otherwise the levels of the window: the quietest
frames are the noise, and frames that rise above it are speech. Voices are not told apart here, so
only pauses show where the speaker may change.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auris.audio.silero import FRAME as SILERO_FRAME
from auris.audio.silero import SileroFrames, SileroNetwork, silero_file
from auris.diarization.windows import FRAME
from auris.models.speaker_segmentation import CENTER, STEP
from auris.types import SAMPLE_RATE

SPEECH_PROBABILITY = 0.5

BAND_HZ = (150.0, 5000.0)
"""Frequencies whose level is compared."""

NOISE_SHARE, SPEECH_SHARE = 5.0, 95.0
"""Percentiles of the levels that are taken for the noise and for loud speech."""

RISE_DB = 8.0
"""Speech is this far above the noise."""

LEAST_RANGE_DB = 6.0
"""Levels that differ less are steady noise; and speech that is this far under loud speech, or less,
is speech whatever the noise."""

FALL_DB = 30.0
"""Speech is not weaker than this under loud speech."""

QUIET_DB = -65.0
"""Lowest level of the noise, full scale being 0."""

SMOOTHED = 5
"""Frames of 10 ms over which a level is averaged."""


class SpeechSegmentation:
    """One voice wherever there is speech; a `Segmentation`.

    Args:
        network: of silero-vad; None to decide by levels.
    """

    separates = False

    def __init__(self, network: SileroNetwork | None) -> None:
        self._network = network

    @classmethod
    def installed(cls) -> SpeechSegmentation:
        """With silero-vad if it is installed."""
        file = silero_file()
        return cls(None if file is None else SileroNetwork.load(file))

    def active(self, samples: Tensor) -> Tensor:
        """Whether there is speech, bool [frames, 1], in float32 samples [S]."""
        wave = samples.numpy()
        if self._network is None:
            speech, size = speech_by_levels(wave), FRAME
        else:
            frames = SileroFrames(self._network)
            probabilities = np.array(frames.push(wave) + frames.finish())
            speech, size = probabilities > SPEECH_PROBABILITY, SILERO_FRAME
        centers = np.arange(CENTER, len(wave) - CENTER, STEP)
        return torch.from_numpy(speech[np.minimum(centers // size, len(speech) - 1)][:, None])


def speech_by_levels(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each frame of 10 ms is speech, by its level."""
    count = max(len(samples) // FRAME, 1)
    frames = np.resize(samples, count * FRAME).reshape(count, FRAME) * np.hanning(FRAME)
    powers = np.square(np.abs(np.fft.rfft(frames, 512)))
    hertz = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)
    band = powers[:, (hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1])].sum(1)
    scale = 4.0 / np.square(np.hanning(FRAME).sum())
    smooth = np.convolve(band, np.ones(SMOOTHED) / SMOOTHED, "same")
    levels = 10.0 * np.log10(smooth * scale + 1e-12)
    # Zeros that complete a window are no noise.
    spoken = levels[: -(-(np.flatnonzero(samples)[-1] + 1) // FRAME)] if samples.any() else levels
    noise, loud = np.maximum(np.percentile(spoken, (NOISE_SHARE, SPEECH_SHARE)), QUIET_DB)
    if loud - noise < LEAST_RANGE_DB:
        return np.zeros(count, bool)
    return np.asarray(levels > max(min(noise + RISE_DB, loud - LEAST_RANGE_DB), loud - FALL_DB))
