"""Memory use over many files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import many_files
from auris import AsrPipeline
from tests.benchmarks.conftest import Script
from tests.recordings import write_wav


def test_growth_is_measured_after_the_first_tenth(
    ctc: AsrPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = iter([1.0, *[1.2] * 8, 1.5])
    monkeypatch.setattr(many_files, "resident_gb", lambda: next(levels))
    score = many_files.measure_files(ctc, [write_wav(tmp_path / "a.wav", 0.5)], 20)
    assert (score.files, len(score.resident_gb), score.growth) == (20, 10, 0.5)


def test_the_script(script: Script, ctc_directory: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.5).with_suffix(".txt").write_text("a word")
    done = script("many_files", "--test-set", tmp_path, "-m", ctc_directory, "--files", "10")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out.splitlines()[-1])["files"] == 10
