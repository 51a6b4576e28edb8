"""The native encoder against PyTorch: the same integers, hence nearly the same states."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends import native, native_encoder
from auris.backends.torch import TorchBackend
from auris.checkpoints.quantization_config import Quantization
from tests.backends.test_packed_layers import packed_model
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.tiny_models import ctc_config, qwen_config, tiny_model

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

SHAPES = [
    {"conv_channels": 16, "d_model": 32},
    {"conv_channels": 48, "d_model": 96, "heads": 3},
    {"conv_channels": 80, "d_model": 48, "heads": 1, "window_frames": 200},
]

CLOSE = 5e-3
"""Of the norm: sums of other orders put few numbers over the edge between two codes."""


def backends(shape: int) -> tuple[TorchBackend, TorchBackend]:
    """One model, run by native code and by PyTorch."""
    model = packed_model(qwen_config(**SHAPES[shape]), Quantization("int8"), seed=shape)
    ours, theirs = TorchBackend(model), TorchBackend(model)
    assert ours.native_stem is not None
    assert ours.native_encoder is not None
    theirs.native_stem, theirs.native_encoder = None, None
    return ours, theirs


def mel(frames: int, seed: int = 0, loud: float = 1.0) -> Tensor:
    return loud * torch.randn(128, frames, generator=torch.Generator().manual_seed(seed))


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 99, 100, 233, 1700])
def test_states_equal_those_of_pytorch(shape: int, frames: int, instructions: str) -> None:
    ours, theirs = backends(shape)
    (tokens,), (wanted,) = ours.encode_stem([mel(frames)]), theirs.encode_stem([mel(frames)])
    assert tokens.shape == wanted.shape
    assert off(tokens, wanted) < CLOSE
    (states,), (wanted_states,) = (b.encode_layers([wanted]) for b in (ours, theirs))
    assert off(states, wanted_states) < CLOSE


def test_states_are_close_to_those_before_packing() -> None:
    """Within the error of 8 bits, without the positions, which have no weights."""
    config = qwen_config(conv_channels=48, d_model=96, heads=3)
    plain = TorchBackend(tiny_model(config, 1))
    ours, _ = backends(1)
    silent = [torch.zeros(128, 300)]
    rest = [backend.encode_stem(silent)[0] for backend in (ours, plain)]
    heard = [backend.encode_stem([mel(300)])[0] for backend in (ours, plain)]
    assert 0.0 < off(heard[0] - rest[0], heard[1] - rest[1]) < 0.05
    (states,), (wanted,) = ours.encode_layers([heard[1]]), plain.encode_layers([heard[1]])
    assert 0.0 < off(states, wanted) < 0.03


@settings(deadline=None, max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=4),
    loud=st.sampled_from((0.0, 1.0, 1e4)),
    threads=st.integers(1, 3),
)
def test_a_clip_has_the_same_bits_in_any_batch(
    lengths: list[int], loud: float, threads: int
) -> None:
    """Convolutions and layers with any number of threads; the projection between them is computed
    by PyTorch and differs with it."""
    ours, _ = backends(2)
    assert ours.native_stem is not None
    clip = mel(350)
    (tokens,) = ours.encode_stem([clip])
    (alone,) = ours.encode_layers([tokens])
    convolve = ours.native_stem.convolve
    chunk = clip[None, :, :100].contiguous()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        company = [mel(length, seed, loud) for seed, length in enumerate(lengths)]
        heard = ours.encode([*company, clip, *company])
        (heard_alone,) = ours.encode([clip])
        others = ours.encode_stem(company)
        states = ours.encode_layers([*others, tokens, *others])
        chunks = convolve(torch.cat([mel(100, 7, loud)[None], chunk, chunk]))
        first = convolve(chunk)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(chunks[1:], first.expand(2, -1, -1, -1))
    assert torch.equal(states[len(lengths)], alone)
    assert torch.equal(heard[len(lengths)], heard_alone)
    assert off(heard_alone, alone) < CLOSE


def test_complete_conv_blocks_do_not_depend_on_what_follows() -> None:
    ours, _ = backends(0)
    whole = mel(730)
    (tokens,) = ours.encode_stem([whole])
    for frames in (100, 200, 333, 700):
        (prefix,) = ours.encode_stem([whole[:, :frames]])
        closed = frames // 100 * 13
        assert torch.allclose(prefix[:closed], tokens[:closed], atol=1e-5)


def test_long_batches_are_computed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = backends(2)
    tokens = ours.encode_stem([mel(frames, frames) for frames in (30, 950, 400, 210)])
    whole = ours.encode_layers(tokens)
    for most in (1, 40, 100):
        monkeypatch.setattr(native_encoder, "TOKENS", most)
        for part, one in zip(ours.encode_layers(tokens), whole, strict=True):
            assert torch.equal(part, one)


def test_nan_affects_only_its_own_conv_block() -> None:
    ours, _ = backends(0)
    clip = mel(400)
    (good,) = ours.encode_stem([clip])
    clip[5, 150] = torch.nan
    (bad,) = ours.encode_stem([clip])
    assert bad[13:26].isnan().all()
    assert torch.allclose(bad[:13], good[:13], atol=1e-5)
    assert torch.allclose(bad[26:], good[26:], atol=1e-5)


def test_encoders_with_other_norms_and_stems() -> None:
    """RMSNorms have no bias; a convolution over time alone is PyTorch's."""
    config = ctc_config()
    encoder = dataclasses.replace(config.encoder, d_model=32, stem="conv1d")
    config = dataclasses.replace(config, encoder=encoder)
    assert encoder.norm == "rms"
    model = packed_model(config, Quantization("int8"))
    ours, theirs = TorchBackend(model), TorchBackend(model)
    assert ours.native_stem is None
    assert ours.native_encoder is not None
    theirs.native_encoder = None
    clips = [mel(310), mel(95, 1)]
    for found, wanted in zip(ours.encode(clips), theirs.encode(clips), strict=True):
        assert off(found, wanted) < CLOSE


def test_odd_widths_use_pytorch() -> None:
    model = packed_model(qwen_config(conv_channels=24, heads=4), Quantization("int8"))
    backend = TorchBackend(model)
    assert backend.native_stem is None  # 24 channels are no multiple of 16.
    assert backend.native_encoder is None  # Heads of 8.
    (states,) = backend.encode([mel(120)])
    assert states.isfinite().all()
