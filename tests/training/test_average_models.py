"""The mean of the weights of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.command import Script
from tests.tiny_models import ctc_config, write_tiny

SCRIPT = Path(__file__).parents[2] / "scripts" / "average_models.py"


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(capsys, monkeypatch)


def test_the_mean_of_two_models_lies_between_them(script: Script, tmp_path: Path) -> None:
    before = write_tiny(tmp_path / "before", seed=1)
    after = write_tiny(tmp_path / "after", seed=2)
    done = script(SCRIPT, before, after, tmp_path / "mean")
    assert done.code == 0, done.err
    one, other, mean = (
        load_file(tmp_path / name / "model.safetensors") for name in ("before", "after", "mean")
    )
    assert mean.keys() == one.keys()
    for name, weight in mean.items():
        expected = (one[name].float() + other[name].float()) / 2
        torch.testing.assert_close(weight, expected.to(weight.dtype))
    files = {path.name for path in after.iterdir()}
    assert {path.name for path in (tmp_path / "mean").iterdir()} == files


def test_models_of_other_shapes_are_refused(script: Script, tmp_path: Path) -> None:
    one = write_tiny(tmp_path / "one")
    other = write_tiny(tmp_path / "other", config=ctc_config())
    with pytest.raises(ValueError, match="different tensors"):
        script(SCRIPT, one, other, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
