"""Log-mel features against the reference's extractor and against explicit formulas."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tone_speech

from auris.audio.features import StreamingLogMel, log_mel, mel_filters, mel_frames
from auris.audio.io import load
from auris.audio.resample import LOUDEST
from auris.config import Frontend
from auris.errors import EmptyAudio

RATE = 16_000
TOLERANCE = 1e-10
"""Largest mean squared difference from the reference."""

SPEECH = Path(__file__).parents[3] / "shared" / "speech"
CLIPS = 60


def signal(kind: str, length: int) -> np.ndarray:
    """`length` samples of sound."""
    rng = np.random.default_rng(length)
    time = np.arange(length) / RATE
    made = {
        "noise": lambda: 0.1 * rng.standard_normal(length),
        "quiet noise": lambda: 1e-4 * rng.standard_normal(length),
        "loud noise": lambda: 3.0 * rng.standard_normal(length),
        "tone": lambda: 0.5 * np.sin(2 * np.pi * 440 * time),
        "chirp": lambda: 0.5 * np.sin(2 * np.pi * (50 * time + 300 * time**2)),
        "silence": lambda: np.zeros(length),
        "offset": lambda: np.full(length, 0.25),
        "clicks": lambda: np.where(np.arange(length) % 3777 == 5, 1.0, 0.0),
        "speech": lambda: tone_speech(length / RATE)[:length],
    }
    return made[kind]().astype(np.float32)


KINDS = ["noise", "quiet noise", "loud noise", "tone", "chirp", "silence", "offset", "clicks"]
LENGTHS = [1, 2, 159, 160, 161, 399, 400, 401, 7999, 8000, 8001, 8159, 8160, 16_000, 16_079]
LONGER = [24_000, 47_999, 48_000, 123_456, 480_000, 480_001, 960_000]


@cache
def extractor() -> Any:
    transformers = pytest.importorskip("transformers", minversion="5.23")
    return transformers.Qwen3ASRFeatureExtractor()


def reference(samples: np.ndarray) -> np.ndarray:
    """The reference's valid frames of one clip."""
    features = extractor()(
        samples, sampling_rate=RATE, padding=True, return_attention_mask=True, return_tensors="np"
    )
    mask = features.get("attention_mask", features.get("input_features_mask"))[0].astype(bool)
    return np.asarray(features["input_features"][0][:, : int(mask.sum())])


def close(samples: np.ndarray, what: str) -> None:
    ours, theirs = log_mel(samples).numpy(), reference(samples)
    assert ours.shape == theirs.shape, what
    mse = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
    assert mse < TOLERANCE, f"{what}: mean squared difference {mse:.2g}"


@pytest.mark.parametrize("length", LENGTHS)
def test_short_clips_equal_the_reference(length: int) -> None:
    for kind in KINDS:
        close(signal(kind, length), f"{kind}, {length} samples")


@pytest.mark.parametrize("length", LONGER)
def test_longer_clips_equal_the_reference(length: int) -> None:
    for kind in ("speech", KINDS[LONGER.index(length) % len(KINDS)]):
        close(signal(kind, length), f"{kind}, {length} samples")


def test_several_blocks_equal_the_reference() -> None:
    close(signal("speech", 130 * RATE), "four blocks and a part")


def test_speech_equals_the_reference() -> None:
    """A sample of the available recordings from all sets."""
    rows = [
        SPEECH / row["wav"]
        for manifest in sorted(SPEECH.glob("*_dev.csv"))
        for row in csv.DictReader(manifest.read_text(encoding="utf-8").splitlines())
    ]
    if not rows:
        pytest.skip("no recordings here")
    assert len(rows) >= CLIPS
    for path in rows[:: len(rows) // CLIPS][:CLIPS]:
        close(load(path).samples, str(path))


@pytest.mark.parametrize("length", [1, 7999, 8000, 8159, 8160, 16_000, 160_001])
def test_the_number_of_frames_is_predicted(length: int) -> None:
    assert log_mel(signal("noise", length)).shape == (128, mel_frames(length))
    assert mel_frames(length) == max(length, 8000) // 160


@pytest.mark.parametrize("frontend", ["slaney400", "htk1024"])
def test_features_do_not_depend_on_blocks(frontend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = signal("speech", 70 * RATE + 77)
    whole = log_mel(wave, frontend)
    monkeypatch.setattr("auris.audio.features.BLOCK_FRAMES", 1013)
    assert torch.allclose(log_mel(wave, frontend), whole, atol=1e-5)


def by_formula(samples: np.ndarray, n_fft: int, filters: np.ndarray) -> np.ndarray:
    """The same features through torch.stft, whose window of 400 lies centred in the transform."""
    wave = torch.from_numpy(samples).double()
    wave = torch.nn.functional.pad(wave, (0, max(0, 8000 - len(wave))))
    # Reflect only the width of the window, so that a wider transform sees nothing else.
    inner = torch.nn.functional.pad(wave[None], (200, 200), mode="reflect")[0]
    inner = torch.nn.functional.pad(inner, ((n_fft - 400) // 2, (n_fft - 400) // 2))
    window = torch.hann_window(400, periodic=True, dtype=torch.float64)
    spectrum = torch.stft(
        inner, n_fft, 160, win_length=400, window=window, center=False, return_complex=True
    )
    power = spectrum.abs().square()[:, : len(wave) // 160]
    mel = np.log10(np.maximum(filters.T @ power.numpy(), 1e-10))
    return (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("kind", [*KINDS, "speech"])
@pytest.mark.parametrize(
    ("frontend", "n_fft", "scale", "norm"),
    [("slaney400", 400, "slaney", "slaney"), ("htk1024", 1024, "htk", None)],
)
def test_both_frontends_follow_their_formula(
    frontend: Any, n_fft: int, scale: str, norm: str | None, kind: str, bins: int
) -> None:
    utils = pytest.importorskip("transformers.audio_utils")
    with np.errstate(all="ignore"):
        filters = utils.mel_filter_bank(n_fft // 2 + 1, bins, 0.0, 8000.0, RATE, norm, scale)
    ours = mel_filters(n_fft, bins, scale).numpy()
    assert np.abs(ours - filters.T).max() < 1e-6
    for length in (500, 30_011):
        samples = signal(kind, length)
        exact = by_formula(samples, n_fft, filters)
        mse = float(np.mean((log_mel(samples, frontend, bins).numpy() - exact) ** 2))
        # float32 against float64: only the floor of a loud clip differs.
        assert mse < 1e-7, f"{frontend}, {kind}, {length}"


def test_the_floor_is_eight_decades_below_the_maximum() -> None:
    wave = signal("clicks", 48_000)
    mel = log_mel(wave)
    assert float(mel.max() - mel.min()) == pytest.approx(2.0, abs=1e-6)
    silence = log_mel(signal("silence", 16_000))
    assert silence.unique().tolist() == [pytest.approx((-10 + 4) / 4)]


def test_loudness_only_shifts_the_features() -> None:
    wave = signal("speech", 32_000)
    assert torch.allclose(log_mel(wave * 10), log_mel(wave) + 0.5, atol=1e-4)


def test_audio_without_samples_is_an_error() -> None:
    with pytest.raises(EmptyAudio, match="holds no samples"):
        log_mel(np.empty(0, np.float32))


def test_arrays_and_tensors_give_the_same_and_are_not_changed() -> None:
    wave = signal("noise", 9000)
    before = wave.copy()
    assert torch.equal(log_mel(wave), log_mel(torch.from_numpy(wave)))
    assert np.array_equal(wave, before)


@settings(max_examples=40)
@given(
    st.sampled_from(["slaney400", "htk1024"]),
    st.sampled_from(["speech", "chirp", "silence", "clicks"]),
    st.lists(st.integers(1, 30_000), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_growing_clip_has_the_features_of_its_samples(
    frontend: Any, kind: str, lengths: list[int], louder: bool
) -> None:
    """In any order of lengths: the clip may end earlier than the samples that were fed."""
    whole = signal(kind, 30_000)
    if louder:
        whole = whole * np.geomspace(1e-4, 2.0, len(whole)).astype(np.float32)
    live = StreamingLogMel(frontend)
    for length in lengths:
        expected = log_mel(whole[:length], frontend)
        torch.testing.assert_close(live.update(whole[:length]), expected, atol=1e-6, rtol=0)


def test_final_frames_do_not_change() -> None:
    """So results computed from them can be reused."""
    samples, live = signal("speech", 40_000), StreamingLogMel()
    before = live.update(samples[:16_000])[:, :99]
    assert torch.equal(live.update(samples[:24_123])[:, :99], before)


@pytest.mark.parametrize("frontend", ["slaney400", "htk1024"])
def test_the_loudest_accepted_samples_have_finite_features(frontend: Frontend) -> None:
    for period in (1, 2, 37):  # Constant, the highest frequency, and one between.
        wave = LOUDEST * np.cos(2 * np.pi * np.arange(8000) / period).astype(np.float32)
        assert log_mel(wave, frontend).isfinite().all()
