"""The states of a clip depend on the clip alone, and inside it on the window."""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends.torch import TorchBackend
from auris.config import AutConfig, AutCtcConfig, ProjectorConfig, audio_tokens
from auris.models.attention import Kernel, Windows
from auris.models.aut import AudioEncoder, Projector, pack_conv_blocks
from auris.models.aut_ctc import AutCtc
from tests.ties import LOGITS
from tests.tiny_models import tiny_model

BINS = 16
KERNELS = get_args(Kernel)
WINDOWS = range(100, 801, 100)
EDGES = [50, 51, 99, 100, 101, 107, 108, 109, 150, 199, 200, 201, 799, 800, 801, 899, 900, 1603]
"""Clip lengths in frames around the edges of conv blocks and windows."""


@cache
def backend(
    window: int = 800, norm: Literal["layer", "rms"] = "layer", kernel: Kernel = "auto"
) -> TorchBackend:
    encoder = AutConfig(
        mel_bins=BINS,
        layers=2,
        d_model=16,
        heads=2,
        ffn=24,
        conv_channels=4,
        window_frames=window,
        norm=norm,
    )
    model = tiny_model(AutCtcConfig(encoder, units=9, projector=ProjectorConfig(5)), seed=2)
    assert isinstance(model, AutCtc)
    return TorchBackend(model, kernel)


@cache
def clip(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * seed + frames)
    return torch.randn(BINS, frames, generator=generator)


@cache
def alone(frames: int, seed: int = 0, window: int = 800) -> Tensor:
    return backend(window, kernel="math").encode([clip(frames, seed)])[0]


def agree(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, what
    worst = float((ours - theirs).abs().max())
    assert worst < LOGITS, f"{what}: states differ by {worst:.2g}"


def test_the_states_are_worth_comparing() -> None:
    states = alone(350)
    assert float(states.std()) > 0.3
    changed = clip(350).clone()
    changed[:, 10] += 1.0
    other = backend().encode([changed])[0]
    assert float((states - other).abs().amax(1).min()) > 10 * LOGITS, "a token hears nothing"


@pytest.mark.parametrize("frames", EDGES)
def test_every_clip_has_the_expected_number_of_tokens(frames: int) -> None:
    states = alone(frames)
    rest = frames % 100
    for _ in range(3):
        rest = -(-rest // 2)
    assert len(states) == audio_tokens(frames) == frames // 100 * 13 + rest


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(EDGES), min_size=1, max_size=5),
    st.sampled_from(WINDOWS),
    st.sampled_from(KERNELS),
)
def test_states_do_not_depend_on_the_batch(lengths: list[int], window: int, kernel: Kernel) -> None:
    batch = backend(window, kernel=kernel).encode([clip(n, i) for i, n in enumerate(lengths)])
    for index, (frames, states) in enumerate(zip(lengths, batch, strict=True)):
        what = f"{frames} frames at place {index}, window {window}, {kernel}"
        agree(states, alone(frames, index, window), what)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_independent(window: int, norm: Literal["layer", "rms"]) -> None:
    """A long clip equals its windows one after the other, with every kernel."""
    long = clip(1749)
    parts = [long[:, first : first + window] for first in range(0, 1749, window)]
    runner = backend(window, norm)
    apart = torch.cat([runner.encode([part])[0] for part in parts])
    for kernel in KERNELS:
        whole = backend(window, norm, kernel).encode([long])[0]
        agree(whole, apart, f"window {window}, {norm}, {kernel}")
    if window < 800:
        wider = backend(800, norm).encode([long])[0]
        assert float((wider - apart).abs().max()) > 100 * LOGITS, "the window does not matter"


@pytest.mark.parametrize("frames", [101, 150, 193])
def test_only_the_padding_of_the_last_conv_block_has_an_effect(frames: int) -> None:
    """Zeros from the end of a clip to the end of its conv block equal the encoder's own padding."""
    padded = torch.nn.functional.pad(clip(frames), (0, -frames % 100))
    longer = backend(100).encode([padded])[0]
    agree(longer[:13], alone(frames, window=100)[:13], "the block before")
    blocks, tokens = pack_conv_blocks([clip(frames)])
    assert torch.equal(blocks, pack_conv_blocks([padded])[0])
    assert tokens == [[13, audio_tokens(frames - 100)]]


def test_states_do_not_depend_on_a_loud_clip_in_the_batch() -> None:
    for loud in (clip(150) * 1e4, torch.full((BINS, 333), 1e30), clip(800, 3) * 100):
        _, states = backend().encode([loud, clip(350)])
        agree(states, alone(350), "beside a loud clip")


def test_ctc_scores_do_not_depend_on_the_batch() -> None:
    lengths = [350, 50, 801]
    states = backend().encode([clip(frames) for frames in lengths])
    together = backend().ctc_logits(states)
    model = backend().model
    for frames, logits in zip(lengths, together, strict=True):
        (single,) = backend().ctc_logits([alone(frames)])
        agree(logits, single, f"{frames} frames")
        assert logits.shape == (audio_tokens(frames), 10)
    packed, counts = model([clip(frames) for frames in lengths])
    assert counts == [audio_tokens(frames) for frames in lengths]
    agree(packed.detach(), torch.cat(together), "the module's own forward")


def test_float16_is_clamped_like_the_reference() -> None:
    config = backend().model.config.encoder
    layer = AudioEncoder(config).half().eval().layers[0]
    for parameter in layer.parameters():
        parameter.data.zero_()
    windows = Windows.of([3], 104, torch.device("cpu"))
    limit = float(torch.tensor(65_504.0 - 1000).half())
    for sign in (1, -1):
        layer.down.bias.data.fill_(sign * 60_000.0)
        x = torch.full((3, config.d_model), sign * 60_000.0, dtype=torch.float16)
        assert layer(x, windows).unique().tolist() == [sign * limit]


def test_dropout_is_active_only_in_training() -> None:
    config = AutConfig(
        mel_bins=BINS, layers=1, d_model=16, heads=2, ffn=24, conv_channels=4, dropout=0.5
    )
    torch.manual_seed(0)
    encoder = AudioEncoder(config)
    encoder.train()
    first, second = (encoder([clip(150)])[0] for _ in range(2))
    assert not torch.equal(first, second)
    encoder.eval()
    first, second = (encoder([clip(150)])[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("hidden", [None, 7])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_projectors_of_every_kind(hidden: int | None, layer_norm: bool, bias: bool) -> None:
    projector = Projector(6, ProjectorConfig(5, hidden, bias, layer_norm))
    x = torch.randn(4, 6)
    wanted = x
    if hidden is not None:
        wanted = torch.nn.functional.gelu(projector.up(wanted))
    wanted = projector.out(wanted)
    if layer_norm:
        wanted = torch.nn.functional.layer_norm(wanted, (5,))
    assert torch.allclose(projector(x), wanted, atol=1e-6)
    assert any(name.endswith("out.bias") for name, _ in projector.named_parameters()) == bias


@pytest.mark.parametrize(
    ("shape", "millions"),
    [((18, 896, 14, 3584), 184.65), ((24, 1024, 16, 4096), 314.33), ((32, 1280, 20, 5120), 643.66)],
    ids=["0.6B", "1.7B", "the largest"],
)
def test_published_sizes_are_built_from_their_config(
    shape: tuple[int, int, int, int], millions: float
) -> None:
    layers, width, heads, ffn = shape
    with torch.device("meta"):
        encoder = AudioEncoder(AutConfig(128, layers, width, heads, ffn, 480))
        states, lengths = encoder([torch.zeros(128, 1000), torch.zeros(128, 300)])
    assert lengths == [130, 39]
    assert states.shape == (169, width)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.05)
