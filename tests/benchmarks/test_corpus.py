"""What shards cost."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.conftest import Script


def test_the_script(script: Script, ctc_directory: Path) -> None:
    done = script("corpus", "-m", ctc_directory, "--rows", "40", "--worked-rows", "20")
    assert (done.code, done.err) == (0, "")
    score = json.loads(done.out.splitlines()[-1])
    assert score["rows"] == 40
    assert score["overhead_ms"] == score["sharded_ms"] - score["direct_ms"]
    assert score["planning_seconds"] > 0
