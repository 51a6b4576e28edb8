"""CAM++ and the speaker segmentation, with random weights by the names of their checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auris.audio.features import filter_banks
from auris.models.campplus import CamPlusPlus
from auris.models.speaker_segmentation import SETS, SpeakerSegmentation

Weights = dict[str, Tensor]
BLOCKS = ((12, 1), (24, 2), (16, 2))


def _normal(generator: torch.Generator) -> Callable[..., Tensor]:
    def make(*shape: int) -> Tensor:
        fan = math.prod(shape[1:]) if len(shape) > 1 else 1
        return torch.randn(*shape, generator=generator) / math.sqrt(fan)

    return make


def campplus_weights() -> Weights:
    normal = _normal(torch.Generator().manual_seed(1))
    weights: Weights = {}

    def norm(name: str, channels: int, affine: bool = True) -> None:
        if affine:
            weights[f"{name}.weight"] = 1 + 0.1 * normal(channels)
            weights[f"{name}.bias"] = 0.1 * normal(channels)
        weights[f"{name}.running_mean"] = 0.1 * normal(channels)
        weights[f"{name}.running_var"] = 1 + 0.1 * normal(channels).abs()

    weights["head.conv1.weight"] = normal(32, 1, 3, 3)
    norm("head.bn1", 32)
    for layer in (1, 2):
        for block in (0, 1):
            name = f"head.layer{layer}.{block}"
            for number in (1, 2):
                weights[f"{name}.conv{number}.weight"] = normal(32, 32, 3, 3)
                norm(f"{name}.bn{number}", 32)
            if block == 0:
                weights[f"{name}.shortcut.0.weight"] = normal(32, 32, 1, 1)
                norm(f"{name}.shortcut.1", 32)
    weights["head.conv2.weight"] = normal(32, 32, 3, 3)
    norm("head.bn2", 32)
    weights["xvector.tdnn.linear.weight"] = normal(128, 320, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", 128)
    channels = 128
    for number, (layers, _) in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            name = f"xvector.block{number}.tdnnd{layer}"
            norm(f"{name}.nonlinear1.batchnorm", channels)
            weights[f"{name}.linear1.weight"] = normal(128, channels, 1)
            norm(f"{name}.nonlinear2.batchnorm", 128)
            weights[f"{name}.cam_layer.linear_local.weight"] = normal(32, 128, 3)
            weights[f"{name}.cam_layer.linear1.weight"] = normal(64, 128, 1)
            weights[f"{name}.cam_layer.linear1.bias"] = normal(64)
            weights[f"{name}.cam_layer.linear2.weight"] = normal(32, 64, 1)
            weights[f"{name}.cam_layer.linear2.bias"] = normal(32)
            channels += 32
        norm(f"xvector.transit{number}.nonlinear.batchnorm", channels)
        weights[f"xvector.transit{number}.linear.weight"] = normal(channels // 2, channels, 1)
        channels //= 2
    norm("xvector.out_nonlinear.batchnorm", channels)
    weights["xvector.dense.linear.weight"] = normal(192, 2 * channels, 1)
    norm("xvector.dense.nonlinear.batchnorm", 192, affine=False)
    return weights


def plain_campplus(w: Weights, features: Tensor) -> Tensor:
    """The network layer by layer, with batch norms of their own."""

    def norm(x: Tensor, name: str) -> Tensor:
        affine = w.get(f"{name}.weight"), w.get(f"{name}.bias")
        return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], *affine)

    def residual(x: Tensor, name: str, stride: int) -> Tensor:
        y = F.conv2d(x, w[f"{name}.conv1.weight"], stride=(stride, 1), padding=1)
        y = F.conv2d(norm(y, f"{name}.bn1").relu(), w[f"{name}.conv2.weight"], padding=1)
        if stride == 2:
            short = F.conv2d(x, w[f"{name}.shortcut.0.weight"], stride=(2, 1))
            x = norm(short, f"{name}.shortcut.1")
        return (norm(y, f"{name}.bn2") + x).relu()

    x = F.conv2d((features - features.mean(0)).T[None, None], w["head.conv1.weight"], padding=1)
    x = norm(x, "head.bn1").relu()
    for layer in (1, 2):
        x = residual(residual(x, f"head.layer{layer}.0", 2), f"head.layer{layer}.1", 1)
    x = F.conv2d(x, w["head.conv2.weight"], stride=(2, 1), padding=1)
    x = norm(x, "head.bn2").relu().flatten(1, 2)
    x = F.conv1d(x, w["xvector.tdnn.linear.weight"], stride=2, padding=2)
    x = norm(x, "xvector.tdnn.nonlinear.batchnorm").relu()
    for number, (layers, dilation) in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            name = f"xvector.block{number}.tdnnd{layer}"
            y = norm(x, f"{name}.nonlinear1.batchnorm").relu()
            y = norm(F.conv1d(y, w[f"{name}.linear1.weight"]), f"{name}.nonlinear2.batchnorm")
            y, cam = y.relu(), f"{name}.cam_layer"
            parts = torch.split(y, 100, dim=2)
            means = [part.mean(2, keepdim=True).expand_as(part) for part in parts]
            context = y.mean(2, keepdim=True) + torch.cat(means, 2)
            mask = F.conv1d(context, w[f"{cam}.linear1.weight"], w[f"{cam}.linear1.bias"]).relu()
            mask = F.conv1d(mask, w[f"{cam}.linear2.weight"], w[f"{cam}.linear2.bias"]).sigmoid()
            local = w[f"{cam}.linear_local.weight"]
            y = F.conv1d(y, local, padding=dilation, dilation=dilation) * mask
            x = torch.cat([x, y], 1)
        x = norm(x, f"xvector.transit{number}.nonlinear.batchnorm").relu()
        x = F.conv1d(x, w[f"xvector.transit{number}.linear.weight"])
    x = norm(x, "xvector.out_nonlinear.batchnorm").relu()
    pooled = torch.cat([x.mean(2), x.std(2)], 1)[:, :, None]
    y = F.conv1d(pooled, w["xvector.dense.linear.weight"])
    return F.normalize(norm(y, "xvector.dense.nonlinear.batchnorm")[0, :, 0], dim=0)


@pytest.mark.parametrize("frames", [20, 99, 200, 205, 430])
def test_embeddings_are_those_of_the_plain_network(frames: int) -> None:
    weights = campplus_weights()
    features = torch.randn(frames, 80, generator=torch.Generator().manual_seed(frames))
    found = CamPlusPlus(weights).embed(features)
    assert float(found.norm()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(found, plain_campplus(weights, features), atol=1e-4, rtol=1e-3)


def segmentation_weights() -> Weights:
    normal = _normal(torch.Generator().manual_seed(2))
    weights: Weights = {"sincnet.wav_norm1d.weight": torch.ones(1)}
    weights["sincnet.wav_norm1d.bias"] = torch.zeros(1)
    bank = "sincnet.conv1d.0.filterbank"
    weights[f"{bank}.low_hz_"] = torch.linspace(30, 6000, 40)[:, None]
    weights[f"{bank}.band_hz_"] = torch.full((40, 1), 100.0)
    weights[f"{bank}.window_"] = torch.hamming_window(251, periodic=False)[:125]
    for number, (inputs, channels) in enumerate([(0, 80), (80, 60), (60, 60)]):
        weights[f"sincnet.norm1d.{number}.weight"] = torch.ones(channels)
        weights[f"sincnet.norm1d.{number}.bias"] = torch.zeros(channels)
        if number:
            weights[f"sincnet.conv1d.{number}.weight"] = normal(channels, inputs, 5)
            weights[f"sincnet.conv1d.{number}.bias"] = normal(channels)
    lstm = torch.nn.LSTM(60, 16, 2, bidirectional=True)
    weights |= {f"lstm.{name}": value.detach() for name, value in lstm.state_dict().items()}
    for name, (inputs, outputs) in {
        "linear.0": (32, 16),
        "linear.1": (16, 16),
        "classifier": (16, 7),
    }.items():
        weights[f"{name}.weight"] = 3 * normal(outputs, inputs)
        weights[f"{name}.bias"] = normal(outputs)
    return weights


def test_segmentation_gives_sets_of_at_most_two_voices() -> None:
    network = SpeakerSegmentation(segmentation_weights(), 16_000)
    noise = torch.randn(160_000, generator=torch.Generator().manual_seed(3))
    active = network.active(noise)
    assert active.shape == (589, 3)
    assert active.dtype == torch.bool
    assert int(active.sum(1).max()) <= 2
    assert SETS == ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    assert torch.equal(active, network.active(noise))


def test_filters_pass_their_band() -> None:
    network = SpeakerSegmentation(segmentation_weights(), 16_000)
    spectra = torch.fft.rfft(network._filters[:, 0], n=16_000).abs()  # A bin for each hertz.
    for number in (5, 20, 35):
        low = 50 + 30 + number * (6000 - 30) / 39
        middle = round(low + 75)
        for filters in (spectra[number], spectra[40 + number]):
            assert filters[middle] > 20 * filters[middle + 1000]
            assert abs(int(filters.argmax()) - middle) < 75


def test_filter_banks_of_a_tone_rise_at_its_band() -> None:
    times = torch.arange(16_000) / 16_000
    bands = filter_banks((2 * math.pi * 1000 * times).sin())
    assert bands.shape == (98, 80)
    mel = 1127 * math.log(1 + 1000 / 700)
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (20, 8000))
    expected = (mel - low) / (high - low) * 81 - 1
    assert abs(int(bands.mean(0).argmax()) - expected) <= 1
    assert filter_banks(torch.zeros(399)).shape == (0, 80)
    assert torch.isfinite(filter_banks(torch.zeros(1600))).all()
