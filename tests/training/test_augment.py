"""Augmentation depends only on its generator and preserves the words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auris.audio.features import log_mel
from auris.training import augment
from auris.types import SAMPLE_RATE
from tests.training.tones import tones


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_augmentation_depends_only_on_the_generator() -> None:
    wave = tones("abcd")
    np.testing.assert_array_equal(augment.vary(wave, rng(3)), augment.vary(wave, rng(3)))
    assert not np.array_equal(augment.vary(wave, rng(3)), augment.vary(wave, rng(4)))


@pytest.mark.parametrize("seed", range(20))
def test_the_length_of_varied_audio_is_within_bounds(seed: int) -> None:
    wave = tones("abcd")
    varied = augment.vary(wave, rng(seed))
    assert varied.dtype == np.float32
    assert np.isfinite(varied).all()
    assert 0.9 * len(wave) <= len(varied) <= 1.12 * len(wave) + 0.8 * SAMPLE_RATE


def test_vary_does_not_change_its_input() -> None:
    wave = tones("abcd")
    before = wave.copy()
    augment.vary(wave, rng())
    np.testing.assert_array_equal(wave, before)


def test_joined_clips_are_in_order_with_pauses() -> None:
    first, second = tones("a"), tones("b")
    joined = augment.join([first, second], rng())
    np.testing.assert_array_equal(joined[: len(first)], first)
    np.testing.assert_array_equal(joined[-len(second) :], second)
    gap = (len(joined) - len(first) - len(second)) / SAMPLE_RATE
    assert augment.GAP_SECONDS[0] <= gap <= augment.GAP_SECONDS[1]
    np.testing.assert_array_equal(augment.join([first], rng()), first)


@pytest.mark.parametrize("seed", range(20))
def test_masks_leave_most_of_the_clip_unchanged(seed: int) -> None:
    mel = log_mel(tones("abcd"), "htk1024")
    masked = augment.mask(mel, rng(seed))
    assert masked.shape == mel.shape
    assert torch.isfinite(masked).all()
    columns = (masked != mel).all(0).sum()
    assert columns <= augment.TIME_MASKS * augment.TIME_SHARE * mel.shape[1]


def test_masking_does_not_change_its_input() -> None:
    mel = log_mel(tones("abcd"), "htk1024")
    before = mel.clone()
    assert any(not torch.equal(augment.mask(mel, rng(seed)), before) for seed in range(3))
    assert torch.equal(mel, before)


@pytest.mark.parametrize("shape", [(128, 1), (128, 10), (3, 50)])
def test_masks_accept_very_short_features(shape: tuple[int, int]) -> None:
    for seed in range(20):
        assert augment.mask(torch.randn(shape), rng(seed)).shape == shape
