"""Variations of a recording that leave its words alone.

All take their chances from the generator they are given, so an example is a function of seed,
epoch and place in the epoch. SpecAugment: Park et al. (2019), without time warping; speed:
Ko et al., "Audio augmentation for speech recognition" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor

from auris.types import SAMPLE_RATE, Samples

__all__ = ["join", "mask", "vary"]

SPEEDS = (0.9, 1.1)
GAINS_DB = (-18.0, 6.0)
NOISE_CHANCE = 0.5
SNR_DB = (5.0, 35.0)
ROOM_CHANCE = 0.2
ROOM_SECONDS = (0.08, 0.4)
PAD_SECONDS = 0.4
GAP_SECONDS = (0.03, 0.35)
HUSH_DB = (-90.0, -50.0)
"""Level of the noise in pads and gaps: digital silence is rare in recordings."""

FREQUENCY_MASKS = 2
FREQUENCY_SHARE = 0.16
TIME_MASKS = 2
TIME_WIDTH = 20
TIME_SHARE = 0.08
"""A time mask covers at most this share of a clip, since short words have no other frames."""

NARROW_CHANCE = 0.1
NARROW_SHARE = (0.67, 0.78)
"""How much of the HTK scale is left in a telephone-like copy: up to about 3.3 to 4.5 kHz."""


def _uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


def _hush(rng: np.random.Generator, samples: int) -> Samples:
    level = 10.0 ** (_uniform(rng, HUSH_DB) / 20.0)
    return np.asarray(level * rng.standard_normal(samples), dtype=np.float32)


def join(pieces: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """Several recordings in a row, with short pauses between."""
    parts = [pieces[0]]
    for piece in pieces[1:]:
        parts += [_hush(rng, int(_uniform(rng, GAP_SECONDS) * SAMPLE_RATE)), piece]
    return np.concatenate(parts)


def _noise(rng: np.random.Generator, samples: int) -> Samples:
    """Noise of unit power whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples).astype(np.float32))
    slope = rng.uniform(0.0, 1.0)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** -slope
    wave = np.fft.irfft(spectrum, samples)
    return (wave / max(float(wave.std()), 1e-9)).astype(np.float32)


def _reverberate(samples: Samples, rng: np.random.Generator) -> Samples:
    """Convolve with a direct path and an exponentially decaying tail of noise."""
    decay = _uniform(rng, ROOM_SECONDS)
    times = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    # 60 dB down at the end of the tail: exp(-6.9 t / decay) in amplitude.
    tail = rng.standard_normal(len(times)) * np.exp(-6.9 * times / decay)
    tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    size = 1 << (len(samples) + len(tail)).bit_length()
    wave = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return wave[: len(samples)].astype(np.float32)


def vary(samples: Samples, rng: np.random.Generator) -> Samples:
    """Speed, room, pads, noise and gain, each by chance: float32 [S] to [S'] at 16 kHz."""
    speed = _uniform(rng, SPEEDS)
    samples = soxr.resample(samples, speed * SAMPLE_RATE, SAMPLE_RATE, quality="LQ")
    if rng.random() < ROOM_CHANCE:
        samples = _reverberate(samples, rng)
    before, after = (int(s * SAMPLE_RATE) for s in rng.uniform(0.0, PAD_SECONDS, 2))
    level = float(np.sqrt(np.square(samples).mean()))
    samples = np.concatenate([_hush(rng, before), samples, _hush(rng, after)])
    if rng.random() < NOISE_CHANCE:
        ratio = 10.0 ** (-_uniform(rng, SNR_DB) / 20.0)
        samples = samples + level * ratio * _noise(rng, len(samples))
    return np.asarray(samples * 10.0 ** (_uniform(rng, GAINS_DB) / 20.0), dtype=np.float32)


def mask(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment: bands and spans of a log-mel [bins, T] set to its mean; by chance also the
    top of the spectrum emptied, as in a telephone call."""
    mel = mel.clone()
    bins, frames = mel.shape
    if rng.random() < NARROW_CHANCE:
        mel[int(_uniform(rng, NARROW_SHARE) * bins) :] = mel.min()
    mean = float(torch.mean(mel))
    for _ in range(FREQUENCY_MASKS):
        width = int(rng.integers(0, int(FREQUENCY_SHARE * bins) + 1))
        first = int(rng.integers(0, bins - width + 1))
        mel[first : first + width] = mean
    widest = min(TIME_WIDTH, int(TIME_SHARE * frames))
    for _ in range(TIME_MASKS):
        width = int(rng.integers(0, widest + 1))
        first = int(rng.integers(0, frames - width + 1))
        mel[:, first : first + width] = mean
    return mel
