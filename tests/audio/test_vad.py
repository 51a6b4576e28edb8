"""Voice activity detection: speech is detected, steady sound is not, blocks do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tone_speech

from auris.audio.segmentation import Cutter, split
from auris.audio.vad import BLOCK, LOOK_AHEAD, SpeechDetector
from auris.types import Chunk

RATE = 16_000


def hiss(seconds: float, level: float = 0.01, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def talk(seconds: float, seed: int = 0, level: float = 0.01) -> np.ndarray:
    return tone_speech(seconds, seed) + hiss(seconds, level, seed)


def decisions(samples: np.ndarray) -> list[bool]:
    detector = SpeechDetector()
    return detector.feed(samples) + detector.finish()


def in_blocks(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    blocks, place, turn = [], 0, 0
    while place < len(samples):
        size = sizes[turn % len(sizes)]
        blocks.append(samples[place : place + size])
        place, turn = place + size, turn + 1
    return blocks


sizes = st.lists(st.integers(0, 40_000), min_size=1, max_size=5).filter(any)
parts = st.lists(
    st.tuples(st.sampled_from(["talk", "hiss", "none"]), st.floats(0.05, 9.0)),
    min_size=1,
    max_size=5,
)


def recording(plan: list[tuple[str, float]]) -> np.ndarray:
    makers = {"talk": talk, "hiss": hiss, "none": lambda s: np.zeros(round(s * RATE), np.float32)}
    return np.concatenate([makers[kind](seconds) for kind, seconds in plan])


@settings(max_examples=40, deadline=None)
@given(parts, sizes)
def test_decisions_do_not_depend_on_block_sizes(
    plan: list[tuple[str, float]], sizes: list[int]
) -> None:
    samples = recording(plan)
    detector = SpeechDetector()
    again = [one for block in in_blocks(samples, sizes) for one in detector.feed(block)]
    again += detector.finish()
    assert again == decisions(samples)
    assert len(again) == -(-len(samples) // BLOCK)


@settings(max_examples=25, deadline=None)
@given(parts, sizes, st.floats(1.0, 6.0))
def test_cuts_and_silences_do_not_depend_on_block_sizes(
    plan: list[tuple[str, float]], sizes: list[int], target: float
) -> None:
    samples = recording(plan)
    chunks = list(split([samples], target, vad=True))
    again = list(split(in_blocks(samples, sizes), target, vad=True))
    assert [(c.start, len(c.samples), c.skipped, c.peak) for c in again] == [
        (c.start, len(c.samples), c.skipped, c.peak) for c in chunks
    ]
    tiles(chunks, samples)


def tiles(chunks: list[Chunk], samples: np.ndarray) -> None:
    """Chunks and silences are the recording, without gap or overlap."""
    place = 0
    for chunk in chunks:
        assert chunk.start == place
        assert (len(chunk.samples) > 0) != (chunk.skipped > 0)
        length = len(chunk.samples) + chunk.skipped
        span = samples[place : place + length]
        if chunk.skipped:
            assert chunk.peak == np.abs(span).max()
        else:
            assert np.array_equal(chunk.samples, span)
        place += length
    assert place == len(samples)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01])
@pytest.mark.parametrize("pause", [8.0, 12.0, 100.0])
def test_a_long_pause_is_skipped_and_speech_is_not(level: float, pause: float) -> None:
    voice = talk(6.0, level=level)
    samples = np.concatenate([voice, hiss(pause, level, 1), voice])
    chunks = list(split([samples], 30.0, vad=True))
    tiles(chunks, samples)
    left_out = [c for c in chunks if c.skipped]
    assert left_out
    # At least a second around speech is kept; the tones end up to 0.5 s earlier.
    assert left_out[0].start >= 7.0 * RATE - BLOCK - 0.6 * RATE
    last = left_out[-1]
    assert last.start + last.skipped <= (6.0 + pause - 1.0 + 0.6) * RATE
    assert sum(c.skipped for c in left_out) >= 0.5 * (pause - 3.2) * RATE
    assert all(c.skipped <= 30 * RATE + BLOCK for c in left_out)


@pytest.mark.parametrize("pause", [0.3, 1.0, 3.0])
def test_short_pauses_are_not_skipped(pause: float) -> None:
    samples = np.concatenate([talk(4.0), hiss(pause), talk(4.0, 1)])
    (only,) = split([samples], 30.0, vad=True)
    assert len(only.samples) == len(samples)


@pytest.mark.parametrize("sound", [np.zeros(120 * RATE, np.float32), hiss(120.0)])
def test_an_hour_of_silence_is_divided(sound: np.ndarray) -> None:
    cutter = Cutter(10.0, vad=True)
    given: list[Chunk] = []
    for second in range(0, len(sound), RATE):
        given += cutter.feed(sound[second : second + RATE])
        assert second + RATE - sum(c.skipped for c in given) <= 10 * RATE + LOOK_AHEAD + RATE
    given += cutter.finish()
    assert all(c.skipped for c in given)
    tiles(given, sound)


def test_cuts_prefer_pauses_to_quieter_speech() -> None:
    """Breath noise between words is louder than a plosive inside one."""
    voice = np.concatenate([talk(26.0), hiss(2.5, 0.01), talk(20.0, 1)])
    voice[round(31.0 * RATE) : round(31.4 * RATE)] = 0.0
    plain, *_ = split([voice], 30.0)
    aware, *_ = split([voice], 30.0, vad=True)
    assert 31.0 <= len(plain.samples) / RATE <= 31.4
    assert 26.0 <= len(aware.samples) / RATE <= 28.5


def test_new_background_noise_is_adapted_to() -> None:
    samples = np.concatenate([hiss(15.0, 1e-4), hiss(40.0, 0.05, 1)])
    found = np.array(decisions(samples))
    assert not found[: 13 * 4].any()
    # New sound could be speech until the silence before it is ten seconds ago.
    assert found[15 * 4]
    assert not found[28 * 4 :].any()


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), hiss(0.01), talk(0.1), talk(0.24)])
def test_audio_shorter_than_a_block(samples: np.ndarray) -> None:
    assert len(decisions(samples)) == (len(samples) > 0)
    chunks = list(split([samples], 1.0, vad=True))
    assert [len(c.samples) for c in chunks] == ([len(samples)] if len(samples) else [])
