"""The benchmark of loading runs and ends in one line of JSON. No result is compared with a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris.cli.main import main
from auris.errors import AurisError
from auris.evaluation.loading import interleaved, measure_here
from tests.tiny_models import ctc_config, write_tiny


def test_one_model_is_measured_in_this_process(tmp_path: Path) -> None:
    measured = measure_here(str(write_tiny(tmp_path / "it")), seconds=0.6, tokens=3)
    size = (tmp_path / "it" / "model.safetensors").stat().st_size
    assert measured["weight_gb"] == pytest.approx(size / 1e9)
    assert measured["used_gb"] >= 0.01
    assert min(measured.values()) >= 0.0


def test_the_command_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny(tmp_path / "it", config=ctc_config())
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "load", "--model", str(folder), "--runs", "1", "--seconds", "0.6"])
    assert not end.value.code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["models"][0]["model"] == str(folder)
    assert result["help_seconds"] > 0.0


def test_a_model_that_fails_to_load_is_named(tmp_path: Path) -> None:
    with pytest.raises(AurisError, match="could not be loaded"):
        list(interleaved([str(tmp_path)], runs=1, seconds=0.5, tokens=1))
