"""What a recording passes through before it is a file: rooms, telephone lines, lossy codecs."""

from __future__ import annotations

import io
import random

import av
import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["pass_through"]

RATE = 16_000
ROOM_PROBABILITY = 0.12
ROOM_SECONDS = (0.1, 0.7)
SPEED_OF_SOUND = 343.0
CODECS = {"opus": 0.3, "mp3": 0.06, "telephone": 0.05, "": 0.59}
"""Shares of clips that are coded: real recordings in small sets mostly are."""

OPUS_BITS = (10_000, 32_000)
MP3_BITS = (24_000, 32_000, 48_000)

Wave = NDArray[np.float32]


def pass_through(samples: Wave, rng: random.Random) -> Wave:
    """Randomly placed in a room, and randomly coded: float32 [S] to [S] at 16 kHz."""
    if rng.random() < ROOM_PROBABILITY:
        samples = in_room(samples, np.random.default_rng(rng.getrandbits(32)))
    codec = rng.choices(list(CODECS), list(CODECS.values()))[0]
    if codec == "opus":
        return coded(samples, "libopus", "ogg", RATE, rng.randint(*OPUS_BITS))
    if codec == "mp3":
        return coded(samples, "libmp3lame", "mp3", RATE, rng.choice(MP3_BITS))
    if codec == "telephone":
        return telephone(samples)
    return samples


def in_room(samples: Wave, rng: np.random.Generator) -> Wave:
    """A box with a speaker and a microphone in it: the first echoes of its walls by image sources,
    then a tail of noise that decays faster the higher it is."""
    size = rng.uniform([2.5, 2.5, 2.2], [9.0, 7.0, 3.5])
    source, microphone = (rng.uniform(0.15, 0.85, 3) * size for _ in range(2))
    reflected = rng.uniform(0.5, 0.92)
    decay = rng.uniform(*ROOM_SECONDS)
    length = int(decay * RATE)
    response = np.zeros(length)
    direct = float(np.linalg.norm(source - microphone))
    for image in np.ndindex(5, 5, 5):
        order = np.asarray(image) - 2
        mirrored = np.where(order % 2 == 0, order * size + source, (order + 1) * size - source)
        path = float(np.linalg.norm(mirrored - microphone))
        index = int((path - direct) / SPEED_OF_SOUND * RATE)
        if 0 <= index < length:
            response[index] += reflected ** int(np.abs(order).sum()) * direct / path
    times = np.arange(length) / RATE
    tail = rng.standard_normal(length) * np.exp(-6.9 * times / decay)
    tail = np.convolve(tail, np.ones(3) / 3, "same") * (times > 0.01)
    response += tail * rng.uniform(0.02, 0.3) / max(float(np.sqrt(np.square(tail).sum())), 1e-9)
    bits = 1 << (len(samples) + length).bit_length()
    wave = np.fft.irfft(np.fft.rfft(samples, bits) * np.fft.rfft(response, bits), bits)
    return wave[: len(samples)].astype(np.float32)


def telephone(samples: Wave) -> Wave:
    """300 to 3400 Hz in eight bits of mu-law."""
    narrow = soxr.resample(samples, RATE, RATE // 2)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 2.0 / RATE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    narrow = np.fft.irfft(spectrum, len(narrow)).clip(-1, 1)
    steps = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    narrow = np.sign(steps) * (256 ** np.abs(steps) - 1) / 255
    return _of_length(soxr.resample(narrow, RATE // 2, RATE), len(samples))


def coded(samples: Wave, codec: str, container: str, rate: int, bits: int) -> Wave:
    """Samples as they come back from a lossy file, by FFmpeg's codecs."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bits
        integers = np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(integers[None], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format.name, "mono", rate)
        for converted in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(converted))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as back:
        resampler = av.AudioResampler("s16", "mono", RATE)
        frames = [f for frame in back.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    joined = np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float32) / 32768.0
    return _of_length(joined, len(samples))


def _of_length(samples: NDArray[np.floating], length: int) -> Wave:
    """Cut or padded with silence."""
    cut = np.asarray(samples[:length], dtype=np.float32)
    return np.pad(cut, (0, length - len(cut)))
