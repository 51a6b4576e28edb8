"""Artificial voices: tones, a segmentation that finds them, and an encoder that knows them.

Every voice is a tone of its own frequency, so what the networks should find is known exactly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auris.audio.features import filter_banks
from auris.diarization.clustering import ClusterSettings
from auris.diarization.diarizer import Diarizer
from auris.diarization.load import SpeakerNetworks
from auris.diarization.voice_model import VoiceSpace
from auris.diarization.windows import Encoder, Segmentation
from auris.models.speaker_segmentation import CENTER, STEP
from auris.types import SAMPLE_RATE, Samples

PITCHES = (300.0, 700.0, 1500.0, 3000.0)
MARKS = (5000.0, 5700.0, 6500.0, 7300.0)
"""Tones above most of the sound of speech."""

MARKED_BANDS = slice(64, 80)
WIDTH = 80


def spoken(*turns: tuple[int | None, float]) -> Samples:
    """Samples of turns: the number of a voice, or None for silence, and seconds."""
    parts = []
    for voice, seconds in turns:
        times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        wave = np.zeros(len(times)) if voice is None else np.sin(2 * np.pi * PITCHES[voice] * times)
        parts.append(0.3 * wave)
    return np.concatenate(parts).astype(np.float32)


def marked(samples: Samples, voice: int) -> Samples:
    """Speech with the quiet tone of a voice, which hardly changes its text."""
    times = np.arange(len(samples)) / SAMPLE_RATE
    return (samples + 0.02 * np.sin(2 * np.pi * MARKS[voice] * times)).astype(np.float32)


def conversation(samples: Samples, *voices: int | None, pause: float = 0.6) -> Samples:
    """The same speech in the voices one after the other; None is as much silence."""
    gap = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    parts = [0 * samples if voice is None else marked(samples, voice) for voice in voices]
    return np.concatenate([part for one in parts for part in (one, gap)])


def music(seconds: float) -> Samples:
    """Chords that change each half second."""
    rng, parts = np.random.default_rng(3), []
    times = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    for _ in range(round(2 * seconds)):
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        chord = sum(np.sin(2 * np.pi * root * step * times) for step in (1, 1.25, 1.5, 2))
        parts.append(0.1 * chord * np.exp(-3 * times))
    return np.concatenate(parts).astype(np.float32)


class ToneSegmentation:
    """Finds one voice wherever there is sound: it misses every change of the speaker."""

    separates = True

    def active(self, samples: Tensor) -> Tensor:
        centers = torch.arange(CENTER, len(samples) - CENTER, STEP)
        loud = torch.stack([samples[c - 80 : c + 80].abs().max() for c in centers]) > 0.01
        return torch.stack([loud, torch.zeros_like(loud), torch.zeros_like(loud)], 1)


class OneVoice(ToneSegmentation):
    """Finds sound, and tells no voices apart."""

    separates = False

    def active(self, samples: Tensor) -> Tensor:
        return super().active(samples)[:, :1]


class ToneEncoder:
    """The spectrum of a tone as its embedding."""

    width = WIDTH

    def features(self, samples: Tensor) -> Tensor:
        return filter_banks(samples)

    def embed(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features.exp().mean(0), dim=0)


class MarkEncoder:
    """The spectrum of the tone of a voice as its embedding."""

    width = MARKED_BANDS.stop - MARKED_BANDS.start

    def features(self, samples: Tensor) -> Tensor:
        return filter_banks(samples)

    def embed(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features[:, MARKED_BANDS].exp().mean(0), dim=0)


def diarizer(encoder: Encoder | None = None, segmentation: Segmentation | None = None) -> Diarizer:
    settings, encoder = ClusterSettings(threshold=0.7), encoder or ToneEncoder()
    found = segmentation or ToneSegmentation()
    return Diarizer(SpeakerNetworks("tones", found, encoder, settings, digest="tones"))


def space(width: int) -> VoiceSpace:
    """Voices lie in all directions alike, and one voice varies little."""
    axes = 20 * np.eye(width, dtype=np.float32)
    return VoiceSpace(np.zeros(width, np.float32), axes, np.full(width, 6.0, np.float32))


def units_diarizer() -> Diarizer:
    """One whose stretches are units, as with the core install."""
    settings = ClusterSettings(threshold=0.6, space=space(ToneEncoder.width))
    return Diarizer(SpeakerNetworks("tones", OneVoice(), ToneEncoder(), settings, "tones"))
