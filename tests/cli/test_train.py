"""`auris train` with models that come with the package."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.cli.command import Auris

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny_ctc_more.json"
EXAMPLE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"


def test_a_run_starts_from_a_bundled_model(auris: Auris, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    once = {"max_steps": 1, "warmup_steps": 0, "lr": 1e-12, "batch_seconds": 8, "bf16": False}
    recipe, manifest = tmp_path / "recipe.json", tmp_path / "train.csv"
    recipe.write_text(json.dumps(json.loads(RECIPE.read_text()) | once))
    shutil.copy(EXAMPLE, tmp_path / "fan.flac")
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["wav", "text"], ["fan.flac", "switch the kitchen fan off"]])
    out = tmp_path / "run"
    done = auris(
        *("train", "ctc", "--config", recipe, "--data", manifest, "--dev", manifest),
        *("--out", out, "--start", "tiny-ctc"),
    )
    assert done.code == 0, done.err
    texts = [
        auris("transcribe", EXAMPLE, "-m", model, "--beam-size", 1)
        for model in ("tiny-ctc", out / "model")
    ]
    assert texts[0].out == texts[1].out != ""
