"""Some hundred inputs of every target raise nothing but documented errors."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gguf")
pytest.importorskip("pydantic")
pytest.importorskip("fastapi")
pytest.importorskip("pyarrow")

from auris.errors import UsageError
from tests.cli.command import Script
from tests.fuzzing.audio_target import Audio
from tests.fuzzing.findings import Findings
from tests.fuzzing.mutation import mutated
from tests.fuzzing.target import Target, refusable
from tests.fuzzing.targets import TARGETS

INPUTS = {"audio": 200, "websocket": 200, "requests": 60}
SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz"
FOUND = Path(__file__).parent / "found"
"""Inputs that once were findings, by target."""


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    target, rng = TARGETS[name](tmp_path / "files"), random.Random(0)
    findings = Findings(tmp_path / "found")
    for path in sorted((FOUND / name).glob("*")):
        findings.run(target, path.read_bytes())
    for data in target.corpus:
        findings.run(target, data)
    for _ in range(INPUTS.get(name, 400)):
        findings.run(target, target.generate(rng))
    target.close()
    assert not findings.places, sorted(findings.places)
    if isinstance(target, Audio):
        assert target.decoded > 20


class Faulty(Target):
    """Raises for inputs with a letter, in one place."""

    def prepare(self) -> None:
        self.corpus = [b"1"]

    def run(self, data: bytes) -> None:
        with refusable():
            if data == b"refused":
                raise UsageError("", "", "")
            int(data)


def test_findings_are_written_once_for_each_place(tmp_path: Path) -> None:
    findings, target = Findings(tmp_path / "found"), Faulty(tmp_path)
    for data in (b"1", b"refused", b"a", b"b"):
        findings.run_alone(target, data)
    assert findings.inputs == 4
    (path,) = findings.places.values()
    assert path.read_bytes() == b"a"
    assert "invalid literal" in path.with_suffix(".txt").read_text()
    assert sorted((tmp_path / "found").iterdir()) == [path, path.with_suffix(".txt")]


def test_mutations_depend_on_the_seed_alone() -> None:
    corpus = [b'{"a": [1, "x"]}', b"text"]
    first, second = (
        [mutated(rng, corpus, binary=False) for _ in range(50)]
        for rng in (random.Random(3), random.Random(3))
    )
    assert first == second
    assert len(set(first)) > 30


def test_the_script_lists_targets_and_replays_inputs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = Script(capsys, monkeypatch)
    listed = script(SCRIPT)
    assert (listed.code, listed.out.split()) == (0, list(TARGETS))
    sample = tmp_path / "sample"
    sample.write_bytes(b"text/plain\n")
    replayed = script(SCRIPT, "forms", "--replay", sample)
    assert (replayed.code, replayed.out) == (0, f"{sample}: nothing was raised\n")


def test_the_script_finds_nothing_in_a_second(tmp_path: Path) -> None:
    options = ["forms", "--blind", "--seconds", "2", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, summary["findings"], summary["guided"]) == (0, [], False), done.stderr
    assert summary["inputs"] > 0
