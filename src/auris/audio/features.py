"""Log-mel spectrograms, equal to the reference's on one clip.

Qwen3-ASR uses Whisper's features: Hann windows of 400 samples every 160, power, 128 Slaney mel
bands, log10, a floor eight decades under the clip's maximum, and (x + 4) / 4. AuT-Tiny uses the
same with a 1024-point FFT and HTK bands. Every constant below is derived from a stated unit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auris.config import CONV_BLOCK_FRAMES, Frontend
from auris.errors import EmptyAudio
from auris.types import SAMPLE_RATE, Samples

HOP = SAMPLE_RATE // 100
"""Samples between frames: 10 ms."""

WINDOW = SAMPLE_RATE // 40
"""Samples under the Hann window: 25 ms."""

MIN_SAMPLES = SAMPLE_RATE // 2
"""A shorter clip is treated as one of this length, with zeros appended."""

POWER_FLOOR = 1e-10
DECADES_BELOW_MAXIMUM = 8.0
BLOCK_FRAMES = 30 * CONV_BLOCK_FRAMES
"""Frames transformed at once, so that memory beyond the result does not grow with the clip."""


@dataclass(frozen=True)
class LogMel:
    """What distinguishes one frontend from another."""

    n_fft: int
    scale: Literal["slaney", "htk"]


FRONTENDS: dict[Frontend, LogMel] = {
    "slaney400": LogMel(n_fft=WINDOW, scale="slaney"),
    "htk1024": LogMel(n_fft=1024, scale="htk"),
}


def mel_frames(samples: int) -> int:
    """Number of frames of a clip of `samples` samples."""
    return max(samples, MIN_SAMPLES) // HOP


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    # Slaney (Auditory Toolbox, 1998): linear below 1 kHz, 27 logarithmic steps per factor 6.4.
    logarithmic = 15.0 + np.log(np.maximum(hz, 1.0) / 1000.0) * (27.0 / np.log(6.4))
    return np.where(hz >= 1000.0, logarithmic, hz * 3.0 / 200.0)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    logarithmic = 1000.0 * np.exp((np.log(6.4) / 27.0) * (mel - 15.0))
    return np.where(mel >= 15.0, logarithmic, mel * 200.0 / 3.0)


@functools.lru_cache(maxsize=8)
def mel_filters(n_fft: int, bins: int, scale: str) -> Tensor:
    """Triangular filters [bins, n_fft // 2 + 1] from 0 Hz to half the sampling rate.

    Slaney filters have unit area (each divided by half its width in Hz), HTK ones unit height.
    """
    top = SAMPLE_RATE / 2
    bounds = _hz_to_mel(np.array([0.0, top]), scale)
    corners = _mel_to_hz(np.linspace(bounds[0], bounds[1], bins + 2), scale)
    frequencies = np.linspace(0.0, top, n_fft // 2 + 1)
    widths = np.diff(corners)
    slopes = corners[:, None] - frequencies[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if scale == "slaney":
        filters *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return torch.from_numpy(filters.astype(np.float32))


@functools.lru_cache(maxsize=8)
def _window_and_filters(frontend: LogMel, bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Hann window [400] and the filters of a frontend on a device."""
    window = torch.hann_window(WINDOW, periodic=True, device=device)
    return window, mel_filters(frontend.n_fft, bins, frontend.scale).to(device)


def _frame_powers(samples: Tensor, frontend: LogMel, bins: int) -> Tensor:
    """log10 of the mel power of every complete frame of the samples, [bins, frames],
    before floor and scaling; the first frame begins at the first sample."""
    window, filters = _window_and_filters(frontend, bins, samples.device)
    frames = samples.unfold(0, WINDOW, HOP)
    rows = torch.empty(bins, len(frames), device=samples.device)
    for first in range(0, len(frames), BLOCK_FRAMES):
        block = frames[first : first + BLOCK_FRAMES] * window
        # A wider FFT pads on the right only: where the frame lies changes phases, not powers.
        power = torch.fft.rfft(block, n=frontend.n_fft).abs().square()
        mel = filters @ power.T
        rows[:, first : first + len(block)] = mel.clamp(min=POWER_FLOOR).log10()
    return rows


def _log_power(wave: Tensor, frontend: LogMel, bins: int, known: int = 0) -> Tensor:
    """Log powers [bins, frames] of the frames of a clip from frame number `known` on.

    Args:
        wave: float32 [S], S a clip's length, at least `MIN_SAMPLES`.
    """
    half = WINDOW // 2
    total = len(wave) // HOP
    if known == total:
        return torch.empty(bins, 0, device=wave.device)
    # Reflected only where the requested frames extend beyond the clip.
    first, end = known * HOP - half, (total - 1) * HOP + half
    left, right = max(-first, 0), max(end - len(wave), 0)
    within = wave[max(first, 0) : min(end, len(wave))]
    padded = torch.nn.functional.pad(within[None], (left, right), mode="reflect")[0]
    return _frame_powers(padded, frontend, bins)


def _padded(samples: Samples | Tensor) -> Tensor:
    """The clip, float32 [S], with zeros up to half a second."""
    wave = torch.as_tensor(samples, dtype=torch.float32)
    if len(wave) == 0:
        raise EmptyAudio(
            "The clip holds no samples",
            "",
            "check the recording and the requested span",
        )
    if len(wave) < MIN_SAMPLES:
        wave = torch.nn.functional.pad(wave, (0, MIN_SAMPLES - len(wave)))
    return wave


def _scaled(log_power: Tensor) -> Tensor:
    """The features of a clip from all its log powers."""
    floor = log_power.max() - DECADES_BELOW_MAXIMUM
    return torch.maximum(log_power, floor).add_(4.0).div_(4.0)


def log_mel(samples: Samples | Tensor, frontend: Frontend = "slaney400", bins: int = 128) -> Tensor:
    """Log-mel of one clip.

    Args:
        samples: float32 [S] at 16 kHz. A clip under 0.5 s is treated as one of 0.5 s.
        frontend: whose features, see `auris.config.Frontend`.
        bins: mel bands.

    Returns:
        float32 [bins, max(S, 8000) // 160].

    Raises:
        EmptyAudio: there is not a single sample.
    """
    return _scaled(_log_power(_padded(samples), FRONTENDS[frontend], bins))


class StreamingLogMel:
    """`log_mel` of a clip that grows; each call transforms only new frames.

    A frame is final when the 200 samples right of its centre are known; its power is stored. The
    frame behind the final ones, which reflects the end, and the floor, which follows the maximum,
    are computed by each call.

    Args:
        frontend, bins: as of `log_mel`.
    """

    def __init__(self, frontend: Frontend = "slaney400", bins: int = 128) -> None:
        self._frontend = FRONTENDS[frontend]
        self._bins = bins
        self._final = torch.empty(bins, 0)

    def update(self, samples: Samples) -> Tensor:
        """`log_mel` of the clip so far.

        Args:
            samples: float32 [S], all of the clip so far. The samples of the call before have to be
                its beginning, or it the beginning of those (a clip may turn out to end earlier).
        """
        final = max((len(samples) - WINDOW // 2) // HOP + 1, 0)
        known = self._final[:, :final]
        new = _log_power(_padded(samples), self._frontend, self._bins, known=known.shape[1])
        rows = torch.cat((known, new), dim=1)
        self._final = rows[:, :final]
        return _scaled(rows)


FILTER_BANK_FFT = 512
LEAST_BANK_HZ = 20.0
PREEMPHASIS = 0.97
BANK_FLOOR = float(np.finfo(np.float32).eps)


@functools.lru_cache(maxsize=2)
def _bank_filters(bins: int) -> Tensor:
    """Triangles [bins, 257] that are straight on the mel scale, from 20 Hz to 8 kHz."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FILTER_BANK_FFT // 2 + 1)
    bounds = _hz_to_mel(np.array([LEAST_BANK_HZ, SAMPLE_RATE / 2]), "htk")
    corners = np.linspace(bounds[0], bounds[1], bins + 2)[:, None]
    mels = _hz_to_mel(frequencies, "htk")[None]
    rising = (mels - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mels) / (corners[2:] - corners[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[:, -1] = 0.0
    return torch.from_numpy(filters.astype(np.float32))


def filter_banks(samples: Tensor, bins: int = 80) -> Tensor:
    """Log filter banks of Kaldi, float32 [frames, bins], of float32 samples [S].

    Frames of 25 ms every 10 ms lie inside the samples: without their mean, with preemphasis, under
    the window of Povey (a Hann window to the power of 0.85).
    """
    if len(samples) < WINDOW:
        return torch.empty(0, bins)
    frames = samples.unfold(0, WINDOW, HOP)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    window = torch.hann_window(WINDOW, periodic=False).pow(0.85)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=FILTER_BANK_FFT)
    powers = spectrum.abs().square() @ _bank_filters(bins).T
    logarithms: Tensor = powers.clamp(min=BANK_FLOOR).log()
    return logarithms
