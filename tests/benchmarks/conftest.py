"""Runs the scripts of benchmarks/ in the process of the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Outcome
from tests.cli.command import Script as AnyScript

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

Script = Callable[..., Outcome]


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script by its name, as `python benchmarks/NAME.py ARGUMENTS` does."""
    monkeypatch.setenv("AURIS_DEVICE", "cpu")
    run = AnyScript(capsys, monkeypatch)
    return lambda name, *arguments: run(BENCHMARKS / f"{name}.py", *arguments)
