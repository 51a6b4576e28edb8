"""Variations of a recording that do not change its words.

All random numbers come from the given generator, so an example is a function of seed, epoch and
position in the epoch. SpecAugment: Park et al. (2019), without time warping; speed:
Ko et al., "Audio augmentation for speech recognition" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor

from auris.types import SAMPLE_RATE, Samples

SPEEDS = (0.88, 1.14)
"""Played faster or slower, so that the voice changes with the tempo."""

GAINS_DB = (-18.0, 6.0)
NOISE_PROBABILITY = 0.25
SNR_DB = (8.0, 40.0)
ROOM_PROBABILITY = 0.1
ROOM_SECONDS = (0.08, 0.4)
PAD_SECONDS = 0.4
GAP_SECONDS = (0.03, 0.35)
PAUSE_SECONDS = (0.1, 1.0)
"""Between speakers."""

NOISE_FLOOR_DB = (-90.0, -50.0)
"""Level of the noise in pads and gaps: digital silence is rare in recordings."""

FREQUENCY_MASKS = 2
FREQUENCY_SHARE = 0.16
TIME_MASKS = 2
TIME_WIDTH = 20
TIME_SHARE = 0.08
"""A time mask covers at most this share of a clip, since short words have no other frames."""

NARROW_PROBABILITY = 0.1
NARROW_SHARE = (0.67, 0.78)
"""How much of the HTK scale is left in a telephone-like copy: up to about 3.3 to 4.5 kHz."""


def _uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


def _faint_noise(rng: np.random.Generator, samples: int) -> Samples:
    level = 10.0 ** (_uniform(rng, NOISE_FLOOR_DB) / 20.0)
    return np.asarray(level * rng.standard_normal(samples), dtype=np.float32)


def join(
    recordings: Sequence[Samples],
    rng: np.random.Generator,
    pauses: tuple[float, float] = GAP_SECONDS,
) -> Samples:
    """Several recordings in a row, with pauses of so many seconds between."""
    parts = [recordings[0]]
    for recording in recordings[1:]:
        parts += [_faint_noise(rng, int(_uniform(rng, pauses) * SAMPLE_RATE)), recording]
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


def _hum(rng: np.random.Generator, samples: int) -> Samples:
    """Mains hum or a motor: a low tone with harmonics."""
    base = rng.choice([50.0, 60.0, _uniform(rng, (70.0, 300.0))])
    times = np.arange(samples) / SAMPLE_RATE
    wave = np.zeros(samples)
    for harmonic in range(1, 9):
        strength = rng.random() / harmonic
        wave += strength * np.sin(2 * np.pi * (base * harmonic * times + rng.random()))
    return wave.astype(np.float32)


def _music(rng: np.random.Generator, samples: int) -> Samples:
    """Chords and melody of decaying harmonic tones over a beat."""
    wave = np.zeros(samples)
    beat = _uniform(rng, (0.15, 0.6))
    root = _uniform(rng, (80.0, 400.0))
    scale = rng.choice([(0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)])
    bright = _uniform(rng, (0.8, 2.0))
    for start in range(0, samples, max(1, int(beat * SAMPLE_RATE))):
        for _ in range(int(rng.integers(0, 4))):
            length = min(samples - start, int(_uniform(rng, (0.2, 1.5)) * SAMPLE_RATE))
            pitch = root * 2.0 ** ((rng.choice(scale) + 12 * rng.integers(0, 3)) / 12.0)
            times = np.arange(length) / SAMPLE_RATE
            decay = np.exp(-times * _uniform(rng, (1.0, 8.0)))
            for harmonic in range(1, 7):
                if pitch * harmonic < SAMPLE_RATE / 2:
                    tone = np.sin(2 * np.pi * pitch * harmonic * times)
                    wave[start : start + length] += harmonic**-bright * decay * tone
        if rng.random() < 0.5:  # A drum.
            length = min(samples - start, SAMPLE_RATE // 10)
            knock = np.exp(-np.arange(length) / (0.02 * SAMPLE_RATE))
            wave[start : start + length] += knock * rng.standard_normal(length)
    return wave.astype(np.float32)


def _sweep(rng: np.random.Generator, samples: int) -> Samples:
    """A siren, a whistle or a slow sweep: a tone with harmonics whose pitch wanders."""
    times = np.arange(samples) / SAMPLE_RATE
    low, high = np.sort(np.exp(rng.uniform(np.log(100.0), np.log(6000.0), 2)))
    turns = _uniform(rng, (0.02, 4.0)) * times + rng.random()
    shape = rng.choice(["sine", "saw", "triangle"])
    if shape == "sine":
        course = 0.5 + 0.5 * np.sin(2 * np.pi * turns)
    elif shape == "saw":
        course = turns % 1.0
    else:
        course = np.abs(2.0 * (turns % 1.0) - 1.0)
    pitch = low * (high / low) ** course
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    wave = np.sin(phase)
    for harmonic in range(2, int(rng.integers(2, 6))):
        audible = pitch * harmonic < SAMPLE_RATE / 2
        wave += audible * rng.random() / harmonic * np.sin(harmonic * phase)
    if rng.random() < 0.3:  # An alarm that is switched on and off.
        wave *= (times * _uniform(rng, (0.5, 5.0))) % 1.0 < _uniform(rng, (0.3, 0.8))
    return wave.astype(np.float32)


def without_speech(rng: np.random.Generator, seconds: float) -> Samples:
    """Silence, noise, hum, sirens, clicks or music: float32 at 16 kHz."""
    samples = int(seconds * SAMPLE_RATE)
    kind = rng.choice(["nothing", "silence", "noise", "hum", "sweep", "clicks", "music", "music"])
    if kind == "nothing":
        return np.zeros(samples, dtype=np.float32)
    if kind == "silence":
        return _faint_noise(rng, samples)
    make = {"hum": _hum, "sweep": _sweep, "music": _music}.get(str(kind), _noise)
    wave = make(rng, samples)
    if kind == "clicks":
        wave = wave * (rng.random(samples) < 2.0 / SAMPLE_RATE) * 20.0 + 0.01 * wave
    elif kind == "noise" and rng.random() < 0.5:  # Wind or traffic, which swells and falls.
        swell = np.interp(
            np.arange(samples),
            np.linspace(0, samples, 2 + int(seconds)),
            rng.random(2 + int(seconds)),
        )
        wave = (wave * swell).astype(np.float32)
    if rng.random() < 0.3:
        wave = wave + 0.1 * _noise(rng, samples)
    peak = max(float(np.abs(wave).max()), 1e-9)
    return np.asarray(wave * (10.0 ** (_uniform(rng, (-50.0, 0.0)) / 20.0) / peak), np.float32)


def vary(samples: Samples, rng: np.random.Generator) -> Samples:
    """Random speed, room, pads, noise and gain: float32 [S] to [S'] at 16 kHz."""
    speed = _uniform(rng, SPEEDS)
    samples = soxr.resample(samples, speed * SAMPLE_RATE, SAMPLE_RATE, quality="LQ")
    if rng.random() < ROOM_PROBABILITY:
        samples = _reverberate(samples, rng)
    before, after = (int(s * SAMPLE_RATE) for s in rng.uniform(0.0, PAD_SECONDS, 2))
    level = float(np.sqrt(np.square(samples).mean()))
    samples = np.concatenate([_faint_noise(rng, before), samples, _faint_noise(rng, after)])
    if rng.random() < NOISE_PROBABILITY:
        samples = _with_noise(samples, level, rng)
    return _with_gain(samples, rng)


def disturbed(
    samples: Samples, rng: np.random.Generator, noise_share: float, room_share: float
) -> Samples:
    """Samples of the same length in a room, with noise and with another gain, each at random."""
    if rng.random() < room_share:
        samples = _reverberate(samples, rng)
    if rng.random() < noise_share:
        samples = _with_noise(samples, float(np.sqrt(np.square(samples).mean())), rng)
    return _with_gain(samples, rng)


def _with_noise(samples: Samples, level: float, rng: np.random.Generator) -> Samples:
    """Samples with noise below a level."""
    ratio = 10.0 ** (-_uniform(rng, SNR_DB) / 20.0)
    return np.asarray(samples + level * ratio * _noise(rng, len(samples)))


def _with_gain(samples: Samples, rng: np.random.Generator) -> Samples:
    return np.asarray(samples * 10.0 ** (_uniform(rng, GAINS_DB) / 20.0), dtype=np.float32)


def mask(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment: bands and spans of a log-mel [bins, T] are set to its mean; in a random share of
    examples the top of the spectrum is emptied, as in a telephone call."""
    mel = mel.clone()
    bins, frames = mel.shape
    if rng.random() < NARROW_PROBABILITY:
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
