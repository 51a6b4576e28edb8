"""Start times and memory of commands. No result is compared with a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris.errors import AurisError
from cold_start import measure_memory
from tests.benchmarks.conftest import Script


def test_the_script(script: Script, qwen_directory: Path) -> None:
    short = ("-m", qwen_directory, "--seconds", "1", "--tokens", "2", "--runs", "1")
    done = script("cold_start", *short, "--threads", "1")
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["cold"][0]["first_token_seconds"] > 0.1
    (memory,) = summary["memory"]
    assert 0.05 < memory["resident_gb"] <= memory["peak_gb"] < 5.0


def test_a_command_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AurisError, match="the command did not"):
        measure_memory(str(tmp_path), "auto", 1.0, 1, 1)
