"""The mean of the weights of models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.tiny_models import ctc_config, write_tiny

SCRIPT = Path(__file__).parents[2] / "scripts" / "average_models.py"


def _run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_mean_of_two_models_lies_between_them(tmp_path: Path) -> None:
    before = write_tiny(tmp_path / "before", seed=1)
    after = write_tiny(tmp_path / "after", seed=2)
    done = _run(before, after, tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    one, other, mean = (
        load_file(tmp_path / name / "model.safetensors") for name in ("before", "after", "mean")
    )
    assert mean.keys() == one.keys()
    for name, weight in mean.items():
        expected = (one[name].float() + other[name].float()) / 2
        torch.testing.assert_close(weight, expected.to(weight.dtype))
    files = {path.name for path in after.iterdir()}
    assert {path.name for path in (tmp_path / "mean").iterdir()} == files


def test_models_of_other_shapes_are_refused(tmp_path: Path) -> None:
    one = write_tiny(tmp_path / "one")
    other = write_tiny(tmp_path / "other", config=ctc_config())
    done = _run(one, other, tmp_path / "mean")
    assert done.returncode != 0
    assert "different tensors" in done.stderr
    assert not (tmp_path / "mean").exists()
