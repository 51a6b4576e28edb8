"""The benchmark of batches, drafts and streams runs. No result is compared with a time."""

from __future__ import annotations

import json
from pathlib import Path

from auris.evaluation.speed import MeasuredModel
from decoding_speed import drafted
from roofline import Machine
from tests.benchmarks.conftest import Script


def test_a_nearly_correct_draft_is_mostly_accepted(qwen_directory: Path) -> None:
    model = MeasuredModel(str(qwen_directory), device="cpu")
    speed = drafted(model, 1.3, 12, Machine())
    assert speed.same
    assert 0 < speed.accepted < speed.guessed
    assert speed.acceptance == speed.accepted / speed.guessed
    assert speed.accepted < speed.tokens


def test_the_script(script: Script, qwen_directory: Path) -> None:
    short = ("-m", qwen_directory, "--seconds", "1", "--tokens", "2", "--batch", "1,2")
    done = script("decoding_speed", *short)
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out.splitlines()[-1])
    assert [one["rows"] for one in summary["batches"]] == [1, 2]
    (draft,), (stream,) = summary["drafts"], summary["streams"]
    assert draft["same"]
    assert 0 <= draft["accepted"] <= draft["guessed"]
    assert 0.0 < stream["step_seconds"] <= stream["late_seconds"] <= stream["longest_seconds"]
