"""Random models of many small shapes, layer by layer against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auris.audio.io import load
from auris.config import audio_tokens
from auris.decoding.requests import Step
from auris.diagnostics.parity import (
    Parity,
    ParityRow,
    compare_states,
    comparison_clip,
    token_difference,
)
from auris.types import SAMPLE_RATE
from tests.tiny_models import qwen_config, tone_speech, write_tiny

pytest.importorskip("transformers", minversion="5.23")

EXAMPLE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied head": {"tied": False},
    "window of 1 s": {"window_frames": 100},
    "window of 3 s": {"window_frames": 300},
    "no grouped queries": {"kv_heads": 4},
    "one key head": {"kv_heads": 1},
    "head_dim is not hidden / heads": {"head_dim": 24, "decoder_heads": 2},
    "deep encoder": {"encoder_layers": 5, "d_model": 48, "heads": 3},
}

SECONDS: dict[str, float] = {
    "one sample": 1 / 16000,
    "under half a second": 0.3,
    "shorter than a conv block": 0.77,
    "a conv block": 1.0,
    "a conv block and a frame": 1.01,
    "a frame under a window": 7.99,
    "a window": 8.0,
    "a window and a sample": 8 + 1 / 16000,
    "two windows": 16.0,
    "more than three windows": 26.13,
}

REQUESTS: dict[str, dict[str, Any]] = {
    "auto": {},
    "forced": {"language": "English"},
    "context": {"context": "names: Zoë O'Brien, 北京;  two  spaces\n"},
    "both": {"language": "Chinese", "context": "fox"},
}


def failed(rows: list[ParityRow]) -> list[ParityRow]:
    """The comparisons that do not agree; the first names the layer."""
    ties = [row for row in rows if "tie" in row.note]
    for row in ties:
        print(f"tie: {row}")
    return [row for row in rows if not row.ok]


EXTREMES = ("one sample", "more than three windows", "both")
"""The cases of models in layout "hf", which differs in names of weights and settings alone."""


def cases(values: dict[str, Any]) -> pytest.MarkDecorator:
    """Every shape with all values in layout "published", and with the extremes in layout "hf"."""
    return pytest.mark.parametrize(
        ("parity", "value"),
        [
            pytest.param((name, layout), value, id=f"{name}-{layout}-{key}")
            for name in CONFIGS
            for layout in ("published", "hf")
            for key, value in values.items()
            if layout == "published" or key in EXTREMES
        ],
        indirect=["parity"],
        scope="module",
    )


@pytest.fixture(scope="module")
def parity(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parity:
    name, layout = request.param
    folder = tmp_path_factory.mktemp("model") / "it"
    return Parity(write_tiny(folder, layout, qwen_config(**CONFIGS[name]), seed=len(name)))


@cases(SECONDS)
def test_every_layer_agrees(parity: Parity, value: float) -> None:
    samples = tone_speech(value, seed=round(value))
    assert failed(parity.compare(samples, max_new_tokens=16)) == []


@cases(REQUESTS)
def test_every_kind_of_request_agrees(parity: Parity, value: dict[str, Any]) -> None:
    rows = parity.compare(tone_speech(2.4), max_new_tokens=24, **value)
    assert failed(rows) == []


def test_a_difference_is_located_in_its_layer(tmp_path: Path) -> None:
    parity = Parity(write_tiny(tmp_path / "it"))
    parity.model.encoder.layers[1].up.weight.data[0, 0] += 0.5
    wrong = failed(parity.compare(tone_speech(1.5), max_new_tokens=4))
    assert wrong[0].stage == "encoder layer 1"


def test_a_bfloat16_matrix_is_located_in_its_layer(tmp_path: Path) -> None:
    parity = Parity(write_tiny(tmp_path / "it"))
    weight = parity.model.encoder.layers[0].out.weight
    weight.data = weight.data.bfloat16().float()
    wrong = failed(parity.compare(tone_speech(1.5), max_new_tokens=4))
    assert wrong[0].stage == "encoder layer 0"
    assert wrong[0].error > 100 * wrong[0].limit


def test_limits_scale_with_the_size_of_a_stage() -> None:
    theirs = torch.linspace(-262.0, 262.0, 999)[None]
    large = {"first": theirs + 1.07e-4}
    (row,) = compare_states(large, {"first": theirs})
    assert row.ok
    assert row.size == 262.0
    assert row.limit == pytest.approx(16 * 2**-23 * 262)
    (row,) = compare_states({"first": theirs / 50 + 1.07e-4}, {"first": theirs / 50})
    assert not row.ok
    stages = {str(number): theirs for number in range(9)}
    rows = compare_states(stages, stages)
    assert rows[8].limit == pytest.approx(3 * rows[0].limit)
    broken = {"first": theirs * float("nan")}
    assert not compare_states(broken, {"first": theirs})[0].ok
    assert not compare_states({"first": theirs}, broken)[0].ok


def test_the_synthetic_clip_is_loud_and_ends_in_a_partial_second() -> None:
    samples = comparison_clip()
    assert len(samples) % SAMPLE_RATE not in (0, SAMPLE_RATE - 1)
    assert audio_tokens(len(samples) // 160) % 13 != 0
    assert abs(samples).max() == pytest.approx(0.9)
    loudness = [float((part**2).mean() ** 0.5) for part in np.array_split(samples, 12)]
    assert min(loudness) > 0.03


def test_the_bundled_model_is_compared_on_speech_and_the_synthetic_clip() -> None:
    parity = Parity("tiny")
    for samples in (comparison_clip(), load(EXAMPLE).samples):
        rows = parity.compare(samples, max_new_tokens=8)
        assert failed(rows) == []
        assert any(row.error for row in rows if row.stage.startswith("encoder layer"))


def steps(*choices: tuple[int | None, float]) -> list[Step]:
    return [Step(0, token, -1.0, margin, None, 0.0, False) for token, margin in choices]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (steps((5, 1.0), (None, 1.0)), [5], (None, False)),
        (steps((5, 1.0), (6, 1e-5), (None, 1.0)), [5, 7], (1, True)),
        (steps((5, 1.0), (6, 0.1), (None, 1.0)), [5, 7], (1, False)),
        (steps((5, 1.0), (None, 1e-5)), [5, 7], (1, True)),
        (steps((5, 1.0), (6, 0.3), (None, 1.0)), [5], (1, False)),
    ],
)
def test_ties_are_distinguished_from_differences(
    ours: list[Step], theirs: list[int], expected: tuple[int | None, bool]
) -> None:
    assert token_difference(ours, theirs) == expected
