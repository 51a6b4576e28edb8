"""Number of generators between a command and the packets of a recording."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from auris.audio.reader import Reader
from auris.cli.main import main
from tests.architecture.source import PACKAGE

CLIP = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"

MOST_GENERATORS = 8


def _active_generators() -> list[str]:
    """Our generators that run at this moment, the innermost first."""
    found, frame = [], sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_code.co_flags & inspect.CO_GENERATOR and PACKAGE in path.parents:
            found.append(f"{path.relative_to(PACKAGE)} {frame.f_code.co_name}")
        frame = frame.f_back
    return found


def test_few_generators_between_a_command_and_a_packet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deepest: list[str] = []
    read = Reader.read

    def watched(self: Reader, size: int) -> bytes:
        deepest[:] = max(deepest, _active_generators(), key=len)
        return read(self, size)

    monkeypatch.setattr(Reader, "read", watched)
    with pytest.raises(SystemExit):
        main(["transcribe", str(CLIP)])
    assert capsys.readouterr().out
    assert 0 < len(deepest) <= MOST_GENERATORS, "\n".join(deepest)
