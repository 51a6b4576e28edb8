"""Recordings with known speech, and how detectors of speech classify them.

What counts as speech is decided on clips before noise is added: frames of 10 ms within 30 dB of
the loudest ones of a clip, and what lies between two of these that are less than 0.3 s apart.
Breath and noise of a recording itself may be that loud; then they count as speech, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auris.audio.activity import speech_meter
from auris.errors import UsageError
from auris.recognition.chunker import AudioChunker
from auris.types import SAMPLE_RATE, Samples

FRAME = SAMPLE_RATE // 100
"""Samples that are speech or not."""

LOUDEST = 120.0
"""Largest difference of speech and the sound behind it, in dB."""

RANGE_DB = 30.0
"""How far below the loudest frames of a clip speech goes."""

BRIDGED = 30
"""Frames without sound that are still speech, between others that are."""

PAUSES = (0.0, 0.5, 1.5, 4.0, 8.0, 15.0)
"""Seconds after a clip."""

LEVEL_DB = -26.0
"""Level of the speech of a clip, its root mean square relative to full scale; in the softest clips
6 dB less."""

PERIOD = 1 << 20
"""Samples (65 s) after which the noise repeats itself."""

NOISES = {"white": 0.0, "pink": 0.5, "brown": 1.0}
"""Exponent by which the amplitude of a noise falls with frequency."""

BACKGROUNDS = (*NOISES, "hum", "music")
"""Kinds of sound behind speech."""

THRESHOLD = 0.5
"""Probability from which speech begins, the default of turns."""

BEAT = 6 * SAMPLE_RATE // 10
"""Samples between two chords."""

CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))
MELODY = (12, 14, 16, 19, 21)
"""Half tones above 220 Hz."""


def speech_frames(samples: Samples) -> NDArray[np.bool_]:
    """Which frames of a clip without noise are speech, [len(samples) // FRAME]."""
    count = len(samples) // FRAME
    power = np.square(samples[: count * FRAME].reshape(count, FRAME)).mean(1)
    level = 10 * np.log10(power + 1e-12)
    speech = np.zeros(count, bool)
    if count == 0 or not power.any():
        return speech
    loud = np.flatnonzero(level > np.percentile(level, 99) - RANGE_DB).tolist()
    for before, frame in pairwise([loud[0], *loud]):
        speech[before if frame - before <= BRIDGED else frame : frame + 1] = True
    return speech


def joined(files: Iterable[Path], seed: int) -> tuple[Samples, NDArray[np.bool_]]:
    """Clips in a row, of about the same level, with pauses; and which frames are speech.

    Raises:
        UsageError: no clip holds any sound.
    """
    rng = np.random.default_rng(seed)
    parts: list[Samples] = []
    marks: list[NDArray[np.bool_]] = []
    for file in files:
        samples = np.concatenate([chunk.samples for chunk in AudioChunker().chunks(str(file))])
        speech = speech_frames(samples)
        samples = samples[: len(speech) * FRAME]
        if not speech.any():
            continue
        level = np.sqrt(np.square(samples.reshape(-1, FRAME)[speech]).mean())
        gain = 10 ** (LEVEL_DB / 20) / level * rng.uniform(0.5, 1.0)
        pause = round(float(rng.choice(PAUSES)) * SAMPLE_RATE) // FRAME
        parts += [(gain * samples).astype(np.float32), np.zeros(pause * FRAME, np.float32)]
        marks += [speech, np.zeros(pause, bool)]
    if not parts:
        raise UsageError("A test set has to hold clips with sound", "none has any", "check it")
    return np.concatenate(parts), np.concatenate(marks)


def with_noise(
    samples: Samples, speech: NDArray[np.bool_], noise: str, snr: float, seed: int
) -> Samples:
    """A recording with steady noise of one of the kinds of `NOISES`, `snr` dB below its speech."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(PERIOD))
    lowest = 20.0 * PERIOD / SAMPLE_RATE
    spectrum /= np.maximum(np.arange(len(spectrum)), lowest) ** NOISES[noise]
    wave = np.resize(np.fft.irfft(spectrum, PERIOD), len(samples))
    return with_background(samples, speech, wave, snr)


def with_background(
    samples: Samples, speech: NDArray[np.bool_], wave: NDArray[np.float64], snr: float
) -> Samples:
    """A recording with another one, `snr` dB below its speech."""
    loud = np.square(samples[: len(speech) * FRAME].reshape(-1, FRAME)[speech]).mean()
    gain = np.sqrt(loud / np.square(wave).mean()) * 10 ** (-snr / 20)
    return np.asarray(samples + gain * wave, np.float32)


def hum(length: int) -> NDArray[np.float64]:
    """The hum of a machine: harmonics of 50 Hz whose strength changes slowly."""
    seconds = np.arange(length) / SAMPLE_RATE
    harmonics = (1, 2, 3, 4, 6, 8, 10, 12)
    wave = sum(np.sin(2 * np.pi * 50 * k * seconds + k) / k for k in harmonics)
    return np.asarray(wave * (1 + 0.2 * np.sin(2 * np.pi * 0.3 * seconds)))


def music(length: int, seed: int) -> NDArray[np.float64]:
    """Chords, a bass, a melody and drums."""
    rng = np.random.default_rng(seed)
    wave = np.zeros(length + 2 * SAMPLE_RATE)

    def note(first: int, half_tones: int, seconds: float, loudness: float) -> None:
        times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = 220 * 2 ** (half_tones / 12)
        tones = sum(np.sin(2 * np.pi * pitch * k * times) / k**1.5 for k in range(1, 7))
        wave[first : first + len(times)] += loudness * np.exp(-3 * times) * tones

    for number, first in enumerate(range(0, length, BEAT)):
        chord = CHORDS[number // 4 % len(CHORDS)]
        for half_tones in chord:
            note(first, half_tones, 1.2, 0.5)
        note(first, chord[0] - 12, 0.6, 0.8)
        for half in (0, BEAT // 2):
            note(first + half, int(rng.choice(MELODY)), 0.5, 0.6)
        drum = np.exp(-np.arange(SAMPLE_RATE // 10) / 300) * rng.standard_normal(SAMPLE_RATE // 10)
        wave[first : first + len(drum)] += 0.5 * drum
    return wave[:length]


@dataclass(frozen=True)
class DetectorScore:
    """How a detector classifies a recording.

    Attributes:
        model: energy or silero.
        background, snr: kind of the sound behind speech and by how many dB speech is louder; None
            without it.
        false: share of the seconds without speech that counts as speech.
        missed: share of the seconds of speech that does not.
        cost: seconds of computing time for a second of audio.
    """

    model: str
    background: str | None
    snr: float | None
    false: float
    missed: float
    cost: float


def score_detectors(
    files: Sequence[Path],
    models: Sequence[str],
    backgrounds: Iterable[str],
    snrs: Iterable[float],
    seed: int = 1,
    threshold: float = THRESHOLD,
) -> Iterator[DetectorScore]:
    """Classify clips in a row as turns are detected, without a background and with each.

    Args:
        threshold: probability from which speech begins.

    Raises:
        UsageError: there is no such background or detector, or no clip.
        MissingExtra: a detector is not installed.
    """
    kinds = list(backgrounds)
    for kind in kinds:
        if kind not in BACKGROUNDS:
            rule = f"The background has to be {', '.join(BACKGROUNDS)}"
            raise UsageError(rule, f"it is {kind!r}", "choose these")
    levels = list(snrs)
    for snr in levels:
        if not abs(snr) <= LOUDEST:
            rule = f"Speech is {-LOUDEST:g} to {LOUDEST:g} dB louder than the sound behind it"
            raise UsageError(rule, f"it is {snr:g} dB", "correct --snr")
    samples, speech = joined(files, seed)
    waves = {"hum": lambda: hum(len(samples)), "music": lambda: music(len(samples), seed)}
    for model in models:
        yield _score(model, samples, speech, None, None, threshold)
    for kind, snr in product(kinds, levels):
        if kind in waves:
            mixed = with_background(samples, speech, waves[kind](), snr)
        else:
            mixed = with_noise(samples, speech, kind, snr, seed)
        for model in models:
            yield _score(model, mixed, speech, kind, snr, threshold)


def _score(
    model: str,
    samples: Samples,
    speech: NDArray[np.bool_],
    background: str | None,
    snr: float | None,
    threshold: float,
) -> DetectorScore:
    meter = speech_meter(model, SAMPLE_RATE)
    began = time.thread_time()
    probabilities = meter.push(samples)
    cost = (time.thread_time() - began) * SAMPLE_RATE / len(samples)
    speaking, decided = False, np.zeros(len(speech) * FRAME, bool)
    for number, probability in enumerate(probabilities):
        speaking = probability >= (meter.release(threshold) if speaking else threshold)
        decided[number * meter.frame : (number + 1) * meter.frame] = speaking
    detected = np.asarray(decided.reshape(-1, FRAME).max(1), bool)
    false = float(detected[~speech].mean()) if not speech.all() else 0.0
    missed = float((~detected[speech]).mean())
    return DetectorScore(model, background, snr, false, missed, cost)
