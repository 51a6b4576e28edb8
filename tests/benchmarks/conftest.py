"""Runs the scripts of benchmarks/ in the process of the test."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

Script = Callable[..., Outcome]


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script by its name, as `python benchmarks/NAME.py ARGUMENTS` does."""
    monkeypatch.setenv("AURIS_DEVICE", "cpu")

    def run(name: str, *arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code: object = 0
        try:
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code is None or isinstance(code, int), code
        return Outcome(code or 0, out, err)

    return run
