"""`auris detect-language`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Auris
from tests.recordings import write_wav


def test_detecting_on_the_command_line(auris: Auris, models: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 2.0)
    done = auris("detect-language", path, "-m", models / "qwen")
    assert done.code == 0
    assert done.out.startswith(f"{path}: ")
    lines = auris("detect-language", path, path, "-m", models / "qwen", "-f", "json").out
    for line in lines.splitlines():
        told = json.loads(line)
        assert told["file"] == str(path)
        assert len(told["languages"]) == 31


def test_a_bad_recording_among_good_ones(auris: Auris, models: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 1.0)
    done = auris("detect-language", "missing.wav", path, "-m", models / "qwen")
    assert done.code == 1
    assert "missing.wav" in done.err
    assert done.out.startswith(str(path))
    assert auris("detect-language", path, "-f", "srt").code == 2
