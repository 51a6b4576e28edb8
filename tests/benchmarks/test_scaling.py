"""Two workers of a corpus and one."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.conftest import Script


def test_the_script(script: Script, ctc_directory: Path) -> None:
    call = ("-m", ctc_directory, "--recordings", "4", "--seconds", "1", "--engine", "leases")
    done = script("scaling", *call, "--rounds", "1")
    assert (done.code, done.err) == (0, "")
    score = json.loads(done.out.splitlines()[-1])["leases"]
    assert score["same_bytes"]
    assert len(score["one_worker_s"]) == len(score["two_workers_s"]) == 1
    assert score["times_faster"] > 0
