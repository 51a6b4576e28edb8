"""Delays of many live streams in simulated time."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.conftest import Script
from tests.recordings import write_wav
from tests.tiny_models import ctc_config, write_tiny


def test_streams_play_all_clips(script: Script, tmp_path: Path) -> None:
    for number in range(2):
        write_wav(tmp_path / f"{number}.wav", 1.0 + number).with_suffix(".txt").write_text("text")
    model = write_tiny(tmp_path / "model", config=ctc_config(), seed=1)
    options = ("--model", model, "--streams", 2, "--clips", 5)
    outcome = script("live_load", "--test-set", tmp_path, *options)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out.splitlines()[-1])
    assert found["streams"] == 2
    assert found["words"] > 0
    assert found["core_seconds"] > 0
    assert 0 <= found["final"]["median"] <= found["final"]["p95"]
