"""`auris batch --input`, `status` and `merge`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from auris.scale.leases import lease_name
from auris.scale.storage import Storage
from tests.audio.media import wav
from tests.cli.command import PROGRAM, Auris
from tests.tiny_models import tone_speech

KILLS = int(os.environ.get("AURIS_TEST_KILLS", "2"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A NeMo manifest of 24 short recordings, of which one does not exist."""
    rows = []
    for n in range(24):
        (tmp_path / f"clip{n:02d}.wav").write_bytes(wav(tone_speech(0.5 + n % 3, n)[None]))
        rows.append({"audio_filepath": f"clip{n:02d}.wav", "duration": 0.5 + n % 3, "text": "a"})
    (tmp_path / "clip07.wav").unlink()
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_corpus(auris: Auris, manifest: Path, models: Path, tmp_path: Path) -> None:
    out, merged = tmp_path / "run", tmp_path / "all.jsonl"
    call = ("batch", "--input", manifest, "--output", out, "-m", models / "ctc")
    call = (*call, "--shard-seconds", 8)
    done = auris(*call, "--worker", "2/3")
    assert done.code == 0
    assert "6 shards of 0.01 hours (measured: 24 by seconds), 0 are finished" in done.err
    assert "6 shards are transcribed here, 0 are left" in done.err
    again = auris(*call)
    assert "0 shards are transcribed here, 0 are left" in again.err
    shown = auris("batch", "status", out)
    assert shown.out.startswith("6 of 6 shards are finished, 0 are leased\n0.01 of 0.01 hours")
    done = auris("batch", "merge", out, merged)
    assert done.code == 1
    assert done.err == f"auris: 24 recordings are written to {str(merged)!r}, 1 of them failed\n"
    rows = [json.loads(line) for line in merged.read_text().splitlines()]
    assert [row["file"] for row in rows] == [f"clip{n:02d}.wav" for n in range(24)]
    assert rows[7]["kind"] == "UnreadableAudio"
    other = auris(*call, "--chunk-seconds", 7)
    assert other.code == 2
    assert "began with chunk_seconds 30.0 instead of 7.0" in other.err


def test_the_status_of_a_run_under_way(
    auris: Auris, manifest: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    auris("batch", "--input", manifest, "--output", out, "-m", models / "ctc", "--headers")
    (result,) = (out / "results").iterdir()
    result.unlink()
    Storage(str(out)).put(lease_name(result.stem, 3), b"")
    shown = json.loads(auris("batch", "status", out, "-f", "json").out)
    assert (shown["shards"], shown["finished"], shown["leased"]) == (1, 0, 1)
    assert (shown["seconds"], shown["finished_seconds"]) == (36.0, 0.0)
    assert shown["ended_workers"] == {result.stem: 3}
    assert "3 workers ended while they worked on it" in auris("batch", "status", out).out
    done = auris("batch", "merge", out, tmp_path / "all.jsonl")
    assert done.code == 2
    assert "1 of 1 are not: wait, or add --partial" in done.err
    assert auris("batch", "merge", out, tmp_path / "a.jsonl", "--partial").code == 0
    call = ("batch", "--input", manifest, "--output", out, "-m", models / "ctc", "--headers")
    done = auris(*call, "--lease-seconds", 0.2)
    assert "waiting for other processes, which work on the 1 shards that are left" in done.err
    assert "1 shards are transcribed here, 0 are left" in done.err
    Storage(str(tmp_path / "new")).put(lease_name("plan.json", 0), b"")
    assert "is being planned: try again later" in auris("batch", "status", tmp_path / "new").err
    done = auris(*call[:4], tmp_path / "new", *call[5:], "--lease-seconds", 0.2)
    assert "waiting for other processes, which plan the corpus" in done.err
    assert done.code == 0


def test_wrong_usage(auris: Auris, manifest: Path, tmp_path: Path) -> None:
    call = ("batch", "--input", manifest)
    out = (*call, "--output", tmp_path / "run")
    for arguments, message in (
        (call, "--output is needed"),
        ((*out, "--worker", "0/4"), "such as 3/64, but it is '0/4'"),
        ((*out, "--worker", "five"), "it is 'five'"),
        ((*out, "--files", "x", "--retry"), "--files and --retry is given"),
        ((*out, "--shard-seconds", 0), "--shard-seconds has to be above 0"),
        (("batch", "--input", tmp_path / "none", "--output", tmp_path / "run"), "no recordings"),
        (("batch", "--input", " ", "--output", tmp_path / "run"), "may not be empty"),
        (("batch", "status", tmp_path), "has no plan.json"),
        (("batch", "--files", "x", "--output", "y", "--worker", "1/2"), "need --input"),
        (("scale", "run", *out[1:], "--worker", "1/2"), "--worker is for auris batch"),
    ):
        done = auris(*arguments)
        assert done.code == 2, arguments
        assert message in done.err


def test_a_shard_that_cannot_be_written_is_reported(
    auris: Auris, manifest: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auris.errors import OutputError
    from auris.scale import run

    def failing(*_: object) -> None:
        raise OutputError("The upload fails", "", "try again")

    monkeypatch.setattr(run, "put_result", failing)
    call = ("batch", "--input", manifest, "--output", tmp_path / "run", "-m", models / "ctc")
    done = auris(*call, "--lease-seconds", "0.1")
    assert done.code == 1
    assert "is given up: The upload fails: try again" in done.err
    assert "0 shards are transcribed here, 1 are left" in done.err


def test_an_interrupted_worker_gives_its_shard_back(
    auris: Auris, manifest: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auris.scale.transcriber import ShardTranscriber

    out = tmp_path / "run"
    call = ("batch", "--input", manifest, "--output", out, "-m", models / "ctc")
    call = (*call, "--shard-seconds", 8, "--worker", "1/1")
    result, calls = ShardTranscriber.result, 0

    def interrupted(*arguments: Any, **options: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return result(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ShardTranscriber, "result", interrupted)
        done = auris(*call)
    assert done.code == 130
    assert done.err.endswith("auris: interrupted; the same command continues\n")
    assert len(list((out / "results").iterdir())) == 2
    assert list((out / "leases").iterdir()) == []
    assert "4 shards are transcribed here, 0 are left" in auris(*call).err


@pytest.mark.no_cover
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_killed_workers_lose_nothing(
    auris: Auris, manifest: Path, models: Path, tmp_path: Path
) -> None:
    """Two workers at a time, killed at random; the merged results are those of one process."""
    call = ["batch", "--input", str(manifest), "-m", str(models / "qwen"), "--shard-seconds", "4"]
    call += ["--max-new-tokens", "8", "--lease-seconds", "2", "--output"]
    one, many = tmp_path / "one", tmp_path / "many"
    assert auris(*call, one).code == 0
    rng = random.Random(1)
    workers: list[subprocess.Popen[bytes]] = []
    killed = 0
    while killed < KILLS:
        while len(workers) < 2:
            workers.append(_worker([*call, str(many)]))
        before = _objects(many)
        while _objects(many) == before and all(worker.poll() is None for worker in workers):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        victim = workers.pop(rng.randrange(2))
        killed += victim.poll() is None
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        if all(f"results/{path.name}" in _objects(many) for path in (one / "results").iterdir()):
            # Everything is finished before the last kill: begin again, without some results.
            for path in list((many / "results").iterdir())[::2]:
                path.unlink()
    workers.append(_worker([*call, str(many)]))
    assert [worker.wait() for worker in workers] == [0] * len(workers)
    for run in (one, many):
        assert auris("batch", "merge", run, f"{run}.jsonl").code == 1
    assert Path(f"{many}.jsonl").read_bytes() == Path(f"{one}.jsonl").read_bytes()


def _worker(call: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*PROGRAM, *call], env=environment, stderr=subprocess.DEVNULL)


def _objects(run: Path) -> set[str]:
    found = (path.relative_to(run).as_posix() for path in run.rglob("*"))
    return {name for name in found if not name.rpartition("/")[2].startswith(".")}
