from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.audio.resample import Resampler, check_rate, output_length, resample, skip
from auris.errors import InvalidSamples

RATES = (8_000, 11_025, 16_000, 16_001, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32)


def in_blocks(samples: np.ndarray, rate: int, sizes: list[int]) -> np.ndarray:
    resampler = Resampler(rate, len(samples))
    made, at, index = [], 0, 0
    while at < samples.shape[1]:
        size = sizes[index % len(sizes)]
        made.append(resampler.push(samples[:, at : at + size]))
        at, index = at + size, index + 1
    return np.concatenate([*made, resampler.finish()], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    length=st.integers(1, 5_000),
    channels=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=5),
)
def test_results_do_not_depend_on_block_sizes(
    rate: int, length: int, channels: int, sizes: list[int]
) -> None:
    samples = noise(length, channels)
    made = in_blocks(samples, rate, [max(size, length // 50) for size in sizes])
    np.testing.assert_array_equal(made, resample(samples, rate))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("length", [1, 2, 3, 100, 44_100, 44_101, 100_003])
def test_the_length_is_exact(rate: int, length: int) -> None:
    made = resample(noise(length)[0], rate)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert len(made) == output_length(length, rate) == int(length * 16_000 / rate + 0.5)


@pytest.mark.parametrize("rate", RATES)
def test_samples_are_not_shifted(rate: int) -> None:
    time, after = np.arange(rate) / rate, np.arange(16_000) / 16_000

    def tone(at: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * 440 * at) * np.sin(np.pi * at) ** 2

    made = resample(tone(time).astype(np.float32), rate)
    np.testing.assert_allclose(made, tone(after), atol=2e-6)


def test_audio_at_16_khz_is_not_changed() -> None:
    samples = noise(1_000, 2)
    np.testing.assert_array_equal(resample(samples, 16_000), samples)


def test_channels_do_not_mix() -> None:
    samples = noise(5_000, 3)
    together = resample(samples, 44_100)
    for row, made in zip(samples, together, strict=True):
        np.testing.assert_array_equal(made, resample(row, 44_100))


def test_frequencies_above_8_khz_are_removed() -> None:
    tone = np.sin(2 * np.pi * 9_000 * np.arange(44_100) / 44_100).astype(np.float32)
    assert np.abs(resample(tone, 44_100)[2_000:-2_000]).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(rate=st.sampled_from(RATES), wanted=st.integers(0, 60_000))
def test_skipping_does_not_change_the_remaining_samples(rate: int, wanted: int) -> None:
    inputs, outputs = skip(wanted, rate)
    assert inputs * 16_000 == outputs * rate
    assert outputs <= wanted
    samples = noise(rate * 4 + 17)
    whole, rest = resample(samples, rate), resample(samples[:, inputs:], rate)
    np.testing.assert_allclose(
        rest[:, wanted - outputs :], whole[:, wanted:], atol=0 if rate == 16_000 else 5e-6
    )


@pytest.mark.parametrize("rate", [8_000, 44_100.0, np.int32(48_000), np.float32(16_000)])
def test_integer_rates_are_accepted(rate: float) -> None:
    assert check_rate(rate) == int(rate)


@pytest.mark.parametrize(
    "rate", [0, -8_000, 999, 768_001, 44_100.5, float("nan"), float("inf"), True, None, "16000", 1j]
)
def test_invalid_rates_are_refused(rate: object) -> None:
    with pytest.raises(InvalidSamples, match="whole number of Hz"):
        check_rate(rate)
