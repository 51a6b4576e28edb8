"""Start times and memory of commands. No result is compared with a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auris.errors import AurisError
from cold_start import measure_memory, measure_starts
from tests.benchmarks.conftest import Script


def test_the_script(script: Script, qwen_directory: Path) -> None:
    short = ("-m", qwen_directory, "--seconds", "1", "--tokens", "2", "--runs", "1")
    done = script("cold_start", *short, "--threads", "1")
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["cold"][0]["first_token_seconds"] > 0.1
    (memory,) = summary["memory"]
    assert 0.05 < memory["resident_gb"] <= memory["peak_gb"] < 5.0


@pytest.mark.parametrize(
    "measure",
    [
        lambda model: measure_memory(model, "auto", 1.0, 1, 1),
        lambda model: measure_starts(model, ["auto"], 1, 1),
    ],
)
def test_a_command_that_fails_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[[str], object]
) -> None:
    monkeypatch.setattr("cold_start.IMPORT", "print(); print(0.0, 0.0)")
    with pytest.raises(AurisError, match="the command did not"):
        measure(str(tmp_path))
