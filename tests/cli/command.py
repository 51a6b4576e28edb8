"""Runs the command line in the process of the test, and as a program."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import auris
from auris.cli.main import main

PROGRAM = [sys.executable, "-c", "from auris.__main__ import main; main()"]


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a call."""

    code: int
    out: str
    err: str


class Auris:
    """Calls `auris` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        self.capsys.readouterr()
        code: object = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = self.capsys.readouterr()
        assert code is None or isinstance(code, int)
        assert "Traceback" not in err or "--debug" in arguments, err
        return Outcome(code or 0, out, err)


class Script:
    """Runs Python scripts in this process, as `python PATH ARGUMENTS` does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch

    def __call__(self, path: Path, *arguments: object) -> Outcome:
        self.capsys.readouterr()
        code: object = 0
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", [str(path), *map(str, arguments)])
            patched.setattr(sys, "path", [str(path.parent), *sys.path])
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as end:
                code = end.code
        out, err = self.capsys.readouterr()
        if isinstance(code, str):
            return Outcome(1, out, f"{err}{code}\n")
        assert code is None or isinstance(code, int), code
        return Outcome(code or 0, out, err)


def program(
    *arguments: object,
    stdin: bytes = b"",
    stdout: str | None = None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Calls `auris` as a separate program; `stdout` names a file to write to instead."""
    source = str(Path(auris.__file__).parents[1])
    inherited = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with open(stdout or os.devnull, "wb") as file:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": inherited, **(environment or {})},
            timeout=100,
            check=False,
        )
    return Outcome(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def is_one_sentence(message: str, *parts: str) -> None:
    """The error and the remedy are on one line, without a traceback."""
    assert message.startswith("auris: "), message
    assert message.endswith(".\n"), message
    assert message.count("\n") == 1, message
    assert ": " in message.removeprefix("auris: "), message
    for part in parts:
        assert part in message, f"{part!r} is not said in {message!r}"
