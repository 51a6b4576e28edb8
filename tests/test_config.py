"""Configs are validated, and one rule counts audio tokens."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.config import (
    CONV_BLOCK_TOKENS,
    AutConfig,
    AutCtcConfig,
    DecoderConfig,
    ProjectorConfig,
    QwenAsrConfig,
    audio_tokens,
    token_border,
    token_centre,
)
from auris.errors import ConfigError

ENCODER = AutConfig(mel_bins=128, layers=2, d_model=32, heads=2, ffn=64, conv_channels=8)
DECODER = DecoderConfig(
    vocab=100, hidden=48, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=96, rope_theta=1e6
)
MODEL = QwenAsrConfig(ENCODER, ProjectorConfig(out=48, hidden=32), DECODER, audio_token_id=99)


def test_every_token_has_its_frames() -> None:
    """Eight frames apart in a conv block of 100, with a smaller distance to the next conv block."""
    assert [token_centre(n) for n in (0, 1, 12, 13, 14, 130)] == pytest.approx(
        [0.0, 0.08, 0.96, 1.0, 1.08, 10.0]
    )
    assert [token_border(n) for n in (0, 1, 12, 13, 14)] == pytest.approx(
        [0.0, 0.04, 0.92, 0.98, 1.04]
    )


def test_tokens_of_full_seconds() -> None:
    assert CONV_BLOCK_TOKENS == 13
    assert [audio_tokens(100 * n) for n in (0, 1, 8, 30)] == [0, 13, 104, 390]
    assert audio_tokens(50) == 7


@given(st.integers(0, 3000))
def test_token_counts_equal_a_direct_count(frames: int) -> None:
    total, rest = 0, frames
    while rest > 0:
        length = min(rest, 100)
        for _ in range(3):
            length = (length - 1) // 2 + 1
        total += length
        rest -= 100
    assert audio_tokens(frames) == total


def test_derived_sizes() -> None:
    assert (ENCODER.window_tokens, ENCODER.conv_height) == (104, 16)
    assert dataclasses.replace(ENCODER, window_frames=100).window_tokens == 13
    assert AutCtcConfig(ENCODER, units=50).blank == 50


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        *(
            (ENCODER, {name: value}, f"{name} of the audio encoder has to be positive")
            for name in ("mel_bins", "layers", "heads", "ffn", "conv_channels", "d_model")
            for value in (0, -1)
        ),
        (ENCODER, {"d_model": 33}, "multiple of its heads"),
        (ENCODER, {"d_model": 33, "heads": 3}, "even"),
        *(
            (ENCODER, {"window_frames": frames}, "multiple of 100 frames from 100 to 800")
            for frames in (0, -100, 50, 150, 799, 900, 1600)
        ),
        (ENCODER, {"norm": "batch"}, "'layer' or 'rms'"),
        (ENCODER, {"stem": "conv3d"}, "'conv2d' or 'conv1d'"),
        (ENCODER, {"dropout": 1.0}, "dropout"),
        (ENCODER, {"dropout": -0.1}, "dropout"),
        (ENCODER, {"dropout": float("nan")}, "dropout"),
        (ENCODER, {"norm_eps": 0.0}, "norm_eps"),
        (MODEL.projector, {"out": 0}, "out of the projector"),
        (MODEL.projector, {"hidden": 0}, "hidden of the projector"),
        *(
            (DECODER, {name: 0}, f"{name} of the decoder has to be positive")
            for name in ("vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn")
        ),
        *(
            (DECODER, {name: 10**30}, f"{name} of the decoder has to be positive and at most")
            for name in ("vocab", "hidden", "layers", "heads", "head_dim", "ffn")
        ),
        (DECODER, {"heads": 1 << 14, "head_dim": 128}, "heads \\* head_dim of the decoder"),
        (ENCODER, {"layers": 2000}, "at most 1024"),
        (DECODER, {"rope_theta": 0.0}, "rope_theta"),
        (DECODER, {"rms_eps": float("nan")}, "rms_eps"),
        (DECODER, {"kv_heads": 3}, "multiple of its key-value heads"),
        (DECODER, {"head_dim": 15}, "head_dim has to be even"),
        (MODEL, {"projector": ProjectorConfig(out=40)}, "equal the decoder's hidden size"),
        (MODEL, {"audio_token_id": 100}, "inside the vocabulary"),
        (MODEL, {"audio_token_id": -1}, "inside the vocabulary"),
        (AutCtcConfig(ENCODER, units=50), {"units": 0}, "units of the CTC head"),
    ],
)
def test_invalid_configs_are_refused(
    config: AutConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **change)


@pytest.mark.parametrize("frames", range(100, 801, 100))
def test_every_window_of_full_seconds(frames: int) -> None:
    assert dataclasses.replace(ENCODER, window_frames=frames).window_tokens == frames // 100 * 13


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENCODER.layers = 3
