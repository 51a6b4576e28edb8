"""Runs on Ray: by a double of it in this process, and by a real one of several processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from auris import AsrPipeline
from auris.errors import DeviceError, EngineError, MissingExtra, OutputError, UsageError
from auris.scale import Transcribe, ray_run
from auris.scale.plan import Shard
from auris.scale.ray_cluster import Cluster, start
from auris.scale.ray_run import transcribe_on_ray
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from tests.audio.media import wav
from tests.cli.command import PROGRAM, Auris
from tests.scale.corpus import merged, run, settings, transcriber, write_corpus
from tests.scale.ray_double import Double, check_signatures
from tests.scale.real_ray import PATIENCE
from tests.tiny_models import tone_speech

KILLS = int(os.environ.get("AURIS_TEST_KILLS", "1"))

real_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray")


@pytest.fixture
def auris(capsys: pytest.CaptureFixture[str]) -> Auris:
    """The command line."""
    return Auris(capsys)


def test_results_are_those_of_workers(ctc: AsrPipeline, tmp_path: Path, double: Double) -> None:
    source, one, many = write_corpus(str(tmp_path)), str(tmp_path / "one"), str(tmp_path / "many")
    run(ctc, source, one)

    def load() -> ShardTranscriber:
        return transcriber(ctc)

    done: list[Shard] = []
    report = transcribe_on_ray(load, many, settings(source), Cluster(most=3), report=done.append)
    assert (report.done, report.left, report.failed) == (len(done), 0, {})
    assert merged(many) == merged(one)
    assert double.started == [
        {"num_cpus": 3, "object_store_memory": ray_run.STORE_BYTES, "include_dashboard": False}
    ]
    double.shutdown()
    again = transcribe_on_ray(load, many, settings(source), Cluster(address="auto"))
    assert (again.done, again.left) == (0, 0)
    assert double.started[1] == {"address": "auto"}
    with pytest.raises(UsageError, match="began with shard_seconds"):
        transcribe_on_ray(load, many, settings(source, shard_seconds=1.0), Cluster())


def test_a_shard_that_fails_is_reported(
    ctc: AsrPipeline, tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    put = ray_run.put_result

    def failing(storage: Storage, shard: Shard, *rest: Any) -> None:
        if shard.name.startswith("000001"):
            raise OutputError("The upload fails", "", "try again")
        put(storage, shard, *rest)

    monkeypatch.setattr(ray_run, "put_result", failing)
    monkeypatch.setattr(ray_run, "RETRY_PAUSE", 0.0)
    report = transcribe_on_ray(lambda: transcriber(ctc), out, settings(source), Cluster())
    assert report.left == 1
    assert list(report.failed.values()) == ["The upload fails: try again."]


def test_the_command(auris: Auris, tmp_path: Path, double: Double) -> None:
    source, out = write_corpus(str(tmp_path)), tmp_path / "run"
    call = ("scale", "run", "--input", source, "--output", out, "--shard-seconds", 5)
    done = auris(*call, "-m", "tiny-ctc", "--most-actors", 2)
    assert done.code == 0
    assert "0 are left" in done.err
    assert auris("batch", "status", out).code == 0


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[ray\]"):
        transcribe_on_ray(lambda: None, "a", settings("a"), Cluster())


@pytest.mark.parametrize("address", [None, "auto"])
def test_a_ray_that_cannot_be_reached_is_an_error(double: Double, address: str | None) -> None:
    double.absent = ConnectionError("no node\nis running")
    with pytest.raises(EngineError, match=r"it does not \(no node is running\): check"):
        transcribe_on_ray(lambda: None, "a", settings("a"), Cluster(address))


def test_gpus_that_this_machine_does_not_have_are_refused(double: Double) -> None:
    with pytest.raises(DeviceError, match="they are 2, and it has 1: lower them"):
        transcribe_on_ray(lambda: None, "a", settings("a"), Cluster(gpus=2))
    assert not double.connected


@pytest.mark.no_cover
@real_ray
def test_the_double_takes_what_a_real_ray_takes() -> None:
    import ray
    import ray.data
    import ray.serve
    import ray.serve.schema

    check_signatures(ray)


@pytest.mark.no_cover
@real_ray
@pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors")
def test_transcribe_in_actors_of_a_real_ray(
    ctc: AsrPipeline, ctc_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two actors, which leave a processor for reading, add the columns of one process."""
    import pyarrow as arrow
    import ray
    import ray.data
    from pyarrow import parquet

    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    clips = [wav(tone_speech(1.0, number)[None]) for number in range(4)]
    cells = [*clips, b"no sound"]
    for number, cell in enumerate(cells):
        table = arrow.table({"audio": [cell], "number": [number]})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
    started = start(ray, Cluster(most=2), ray_run.STORE_BYTES)
    try:
        transcripts = ray.data.read_parquet(str(tmp_path)).map_batches(
            Transcribe,
            fn_constructor_kwargs={"model": str(ctc_directory), "load": {"device": "cpu"}},
            batch_size=2,
            num_cpus=0.5,
            compute=ray.data.ActorPoolStrategy(min_size=2, max_size=2),
        )
        rows = {row["number"]: row for row in transcripts.take_all()}
    finally:
        if started:
            ray.shutdown()
    assert [bool(rows[number]["error"]) for number in range(5)] == [False] * 4 + [True]
    assert [rows[number]["text"] for number in range(4)] == [
        ctc.transcribe(clip).text for clip in clips
    ]


@pytest.mark.no_cover
@real_ray
def test_killed_actors_lose_nothing(auris: Auris, tmp_path: Path) -> None:
    """Two actors of a real Ray, killed at random while they work; the results are those of one
    process."""
    one, many = tmp_path / "one", tmp_path / "many"
    for number in range(40):
        (tmp_path / f"{number:02d}.wav").write_bytes(wav(tone_speech(15.0, number)[None]))
    options = ["--input", f"{tmp_path}/*.wav", "--shard-seconds", "15", "-m", "tiny-ctc"]
    assert auris("batch", *options, "--threads", 1, "--output", one).code == 0
    call = [*PROGRAM, "scale", "run", "--most-actors", "2", "--least-actors", "2", *options]
    call += ["--threads", "1", "--output", str(many)]
    rng = random.Random(1)
    killed = 0
    while killed < KILLS:
        with open(tmp_path / "log", "ab") as log:
            program = subprocess.Popen(call, env={**os.environ, **PATIENCE}, stdout=log, stderr=log)
        killed += _kill_actors(program, KILLS - killed, rng)
        text = (tmp_path / "log").read_text(errors="replace")
        assert program.wait(timeout=600) == 0, text[-4000:]
        if killed < KILLS:  # Everything was finished before the last kill.
            for path in sorted((many / "results").iterdir())[::2]:
                path.unlink()
    assert merged(str(many)) == merged(str(one))


def _kill_actors(program: subprocess.Popen[bytes], most: int, rng: random.Random) -> int:
    """Kill actors that work on a shard, until the program ends; returns how many were killed."""
    killed = 0
    while program.poll() is None and killed < most:
        time.sleep(rng.uniform(0, 1))
        if actors := _working_actors(program.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(actors).send_signal(signal.SIGKILL)
                killed += 1
    return killed


def _working_actors(parent: int) -> list[psutil.Process]:
    """The processes of actors below a program that work on a shard; Ray names them so."""
    try:
        children = psutil.Process(parent).children(recursive=True)
        return [c for c in children if "ShardActor)).submit" in " ".join(c.cmdline())]
    except psutil.NoSuchProcess:
        return []
