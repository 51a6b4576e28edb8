"""Both stems: tokens, conv blocks, and folding of batch norms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from auris.checkpoints.export import export
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.config import AutConfig, AutCtcConfig, audio_tokens
from auris.diagnostics.parity import LOGIT_LIMIT
from auris.errors import ConfigError
from auris.models.aut import STEM_BLOCKS_CPU, AudioEncoder
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.models.layers import sinusoids
from auris.models.qwen_asr import QwenAsr
from auris.models.stems import make_stem
from tests.tiny_models import qwen_config, tiny_model, tiny_tokenizer

BINS = 16
FOLDED = 1e-5
"""What folding may change in float32."""

StemName = Literal["conv2d", "conv1d"]
every_stem = pytest.mark.parametrize("stem", ["conv2d", "conv1d"])


def encoder_config(stem: StemName, batch_norm: bool = False) -> AutConfig:
    return AutConfig(
        mel_bins=BINS,
        layers=1,
        d_model=24,
        heads=2,
        ffn=32,
        conv_channels=4,
        norm="rms",
        stem=stem,
        batch_norm=batch_norm,
    )


def ctc_model(stem: StemName, batch_norm: bool = False) -> AutCtc:
    """A random model without gradients, in eval mode."""
    units = tiny_tokenizer().size
    model = tiny_model(AutCtcConfig(encoder_config(stem, batch_norm), units), seed=3)
    assert isinstance(model, AutCtc)
    return model.requires_grad_(False)


def clip(frames: int, seed: int = 0) -> Tensor:
    """Log-mel features with a mean far from 0, as real ones."""
    generator = torch.Generator().manual_seed(1000 * seed + frames)
    return 0.7 * torch.randn(BINS, frames, generator=generator) - 0.4


def trained(stem: StemName) -> AutCtc:
    """A model whose batch norms have statistics, in eval mode."""
    model = ctc_model(stem, batch_norm=True).train()
    for step in range(5):
        model([clip(250, step), 3 * clip(120, step)])
    return model.eval()


def tokens(encoder: AudioEncoder, mels: list[Tensor]) -> list[Tensor]:
    """The stem's tokens of each clip."""
    packed, lengths = encoder.tokens(mels)
    return list(packed.split(lengths))


@every_stem
def test_names_and_shapes_of_parameters(stem: StemName) -> None:
    shapes = {
        name: list(p.shape) for name, p in make_stem(encoder_config(stem)).state_dict().items()
    }
    wide = {
        "conv1.weight": [64, BINS, 5],
        "conv2.weight": [128, 64, 5],
        "conv3.weight": [24, 128, 5],
    }
    deep = {
        "conv1.weight": [4, 1, 3, 3],
        "conv2.weight": [4, 4, 3, 3],
        "conv3.weight": [4, 4, 3, 3],
    }
    weights = {**deep, "out.weight": [24, 4 * 2]} if stem == "conv2d" else wide
    biases = {
        name.replace("weight", "bias"): shape[:1]
        for name, shape in weights.items()
        if name != "out.weight"
    }
    assert shapes == weights | biases


@every_stem
def test_every_length_has_the_expected_number_of_tokens(stem: StemName) -> None:
    encoder = ctc_model(stem).encoder
    lengths = range(1, 301)
    found = tokens(encoder, [clip(frames) for frames in lengths])
    assert [len(rows) for rows in found] == [audio_tokens(frames) for frames in lengths]


@every_stem
def test_receptive_fields_of_the_tokens_of_a_conv_block(stem: StemName) -> None:
    """Later frames have no effect, even if they are absent."""
    convolve = ctc_model(stem).encoder.stem
    for count in range(1, 14):
        needed = convolve.input_frames(count)
        noisy = clip(100)
        noisy[:, needed:] = 1e3
        wanted = convolve(clip(100)[None, None])[:, :count]
        for block in (noisy, clip(100)[:, :needed]):
            assert (convolve(block[None, None])[:, :count] - wanted).abs().max() < FOLDED
        if needed < 100:
            nearer = clip(100)
            nearer[:, needed - 1 :] = 1e3
            assert (convolve(nearer[None, None])[:, :count] - wanted).abs().max() > 1.0
    assert convolve.input_frames(13) == 100


@every_stem
def test_a_clip_of_more_conv_blocks_than_a_slice(stem: StemName) -> None:
    encoder = ctc_model(stem).encoder
    frames = (2 * STEM_BLOCKS_CPU + 1) * 100 + 37
    (found,) = tokens(encoder, [clip(frames)])
    parts = [clip(frames)[:, first : first + 100] for first in range(0, frames, 100)]
    assert (found - torch.cat(tokens(encoder, parts))).abs().max() < FOLDED


@every_stem
def test_convolutions_halve_and_round_up(stem: StemName) -> None:
    """A partial conv block has as many tokens as its frames give in a full one."""
    convolutions = make_stem(encoder_config(stem))
    for frames in range(1, 101):
        assert convolutions(clip(frames)[None, None]).shape == (1, audio_tokens(frames), 24)


@every_stem
def test_positions_restart_in_every_conv_block(stem: StemName) -> None:
    encoder = ctc_model(stem).encoder
    for parameter in encoder.stem.parameters():
        parameter.zero_()
    (found,) = tokens(encoder, [clip(250)])
    table = sinusoids(13, 24)
    assert torch.equal(found, torch.cat([table, table, table[:7]]))


@every_stem
def test_a_conv_block_does_not_depend_on_the_next(stem: StemName) -> None:
    encoder = trained(stem).encoder
    changed = clip(230).clone()
    changed[:, 100:200] += 2.0
    (before,), (after,) = (tokens(encoder, [mel]) for mel in (clip(230), changed))
    assert torch.equal(before[:13], after[:13])
    assert torch.equal(before[26:], after[26:])
    assert float((before - after)[13:26].abs().amax(1).min()) > 100 * LOGIT_LIMIT


@every_stem
def test_tokens_equal_the_definition(stem: StemName) -> None:
    """One second in full: convolutions as sums over frames (conv1d) or over patches (conv2d)."""
    module = ctc_model(stem).encoder.stem
    second = clip(100).double()
    x = second if stem == "conv1d" else second[None]
    for conv in (module.conv1, module.conv2, module.conv3):
        kernel = conv.weight.double()
        sides = kernel.dim() - 2
        padded = torch.nn.functional.pad(x, (kernel.shape[-1] // 2,) * 2 * sides)
        for axis in range(1, 1 + sides):
            padded = padded.unfold(axis, kernel.shape[-1], 2)
        letters = "kt"[:sides], "fs"[:sides]
        spec = f"oc{letters[0]},c{letters[1]}{letters[0]}->o{letters[1]}"
        x = torch.einsum(spec, kernel, padded)
        x = x + conv.bias.double().view(-1, *[1] * sides)
        x = torch.nn.functional.gelu(x)
    if stem == "conv2d":
        wanted = x.permute(2, 0, 1).flatten(1) @ module.out.weight.double().T
    else:
        wanted = x.T
    found = module(clip(100)[None, None])[0] - sinusoids(13, 24)
    assert float((found - wanted).abs().max()) < LOGIT_LIMIT


@every_stem
@pytest.mark.parametrize("batch_norm", [False, True])
def test_states_do_not_depend_on_the_batch(stem: StemName, batch_norm: bool) -> None:
    model = trained(stem) if batch_norm else ctc_model(stem)
    clips = [clip(frames, seed) for seed, frames in enumerate([350, 50, 801, 101, 99])]
    packed, lengths = model(clips)
    for mel, logits in zip(clips, packed.split(lengths), strict=True):
        alone, _ = model([mel])
        assert alone.shape == logits.shape
        assert float((alone - logits).abs().max()) < LOGIT_LIMIT


class TestFolding:
    @every_stem
    def test_folding_does_not_change_states(self, stem: StemName) -> None:
        model = trained(stem)
        folded = fold_batch_norm(model)
        assert folded.config == replace(model.config, encoder=encoder_config(stem))
        assert folded.encoder.config == folded.config.encoder
        assert set(folded.state_dict()) == set(ctc_model(stem).state_dict())
        clips = [clip(350), 5 * clip(77), clip(801)]
        before, after = (each.encoder(clips)[0] for each in (model, folded))
        assert float(before.std()) > 0.3
        assert float((before - after).abs().max()) < FOLDED
        plain = ctc_model(stem)
        plain.load_state_dict(model.state_dict(), strict=False)
        assert float((before - plain.encoder(clips)[0]).abs().max()) > 0.1, "nothing to fold"

    @every_stem
    def test_the_model_is_not_changed(self, stem: StemName) -> None:
        model = trained(stem)
        config, before = model.config, {n: t.clone() for n, t in model.state_dict().items()}
        fold_batch_norm(model)
        assert model.config is config
        assert model.encoder.config == encoder_config(stem, batch_norm=True)
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())

    def test_models_without_batch_norms(self) -> None:
        model = ctc_model("conv1d")
        assert fold_batch_norm(model) is model

    def test_models_with_a_decoder(self) -> None:
        config = qwen_config()
        model = tiny_model(replace(config, encoder=replace(config.encoder, batch_norm=True)))
        assert isinstance(model, QwenAsr)
        folded = fold_batch_norm(model)
        assert folded.config == config
        assert set(folded.state_dict()) == set(tiny_model(config).state_dict())

    @every_stem
    def test_training_under_autocast(self, stem: StemName) -> None:
        """Statistics stay in float32, and gradients reach the first convolution."""
        model = ctc_model(stem, batch_norm=True).train().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model([clip(250), clip(120)])
        logits.float().square().mean().backward()
        for name, statistic in model.named_buffers():
            assert statistic.dtype in (torch.float32, torch.int64), name
            assert bool(statistic.isfinite().all()), name
        slope = model.encoder.stem.conv1.weight.grad
        assert slope is not None
        assert 0 < float(slope.abs().max()) < float("inf")


class TestFiles:
    @every_stem
    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_native_files_score_the_same(
        self, stem: StemName, batch_norm: bool, tmp_path: Path
    ) -> None:
        model = fold_batch_norm(trained(stem)) if batch_norm else ctc_model(stem)
        out = export(model, model.config, tiny_tokenizer(), tmp_path / "out", dtype=torch.float32)
        checkpoint = open_checkpoint(out)
        assert checkpoint.config == model.config
        loaded = load_weights(checkpoint, torch.device("cpu"), lambda stored: stored)
        clips = [clip(350), clip(50)]
        assert torch.equal(loaded(clips)[0], model(clips)[0])

    @pytest.mark.parametrize("layout", ["native", "hf", "published"])
    def test_batch_norms_are_refused(
        self, layout: Literal["native", "hf", "published"], tmp_path: Path
    ) -> None:
        model = trained("conv1d")
        with pytest.raises(ConfigError, match="fold_batch_norm"):
            export(model, model.config, tiny_tokenizer(), tmp_path / "out", layout=layout)
        assert not [*tmp_path.iterdir()]

    @pytest.mark.parametrize("layout", ["hf", "published"])
    def test_official_layouts_have_no_conv1d(
        self, layout: Literal["hf", "published"], tmp_path: Path
    ) -> None:
        config = qwen_config()
        config = replace(config, encoder=replace(config.encoder, stem="conv1d"))
        model = tiny_model(config)
        with pytest.raises(ConfigError, match="a conv1d stem"):
            export(model, config, tiny_tokenizer(), tmp_path / "out", layout=layout)
        assert not [*tmp_path.iterdir()]


@torch.inference_mode()
@pytest.mark.parametrize("width", range(1, 9))
def test_narrow_blocks_in_bfloat16_read_no_uninitialized_memory(width: int) -> None:
    """Freed memory full of NaN: with AMX, oneDNN reads it where an output has one column."""
    config = replace(encoder_config("conv2d"), conv_channels=16)
    stem, half = make_stem(config), make_stem(config).bfloat16()
    half.load_state_dict(stem.state_dict())
    mel = clip(width)[None, None]
    for _ in range(10):
        freed = [torch.full((2**size,), torch.nan) for size in range(4, 20) for _ in range(20)]
        del freed
        found = half(mel.bfloat16())
        assert float((found.float() - stem(mel)).abs().max()) < 0.05
