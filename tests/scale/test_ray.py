"""Runs on Ray: by a double of it in this process, and by a real one of several processes."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from auris import AsrPipeline
from auris.errors import MissingExtra, OutputError, UsageError
from auris.scale import ray_run
from auris.scale.plan import Shard
from auris.scale.ray_run import Cluster, transcribe_on_ray
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from tests.cli.command import PROGRAM, Auris
from tests.scale.corpus import merged, run, settings, transcriber, write_corpus

KILLS = int(os.environ.get("AURIS_TEST_KILLS", "1"))

real_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray")


@pytest.fixture
def auris(capsys: pytest.CaptureFixture[str]) -> Auris:
    """The command line."""
    return Auris(capsys)


class Rows:
    """A dataset of the double."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def map_batches(self, kind: Callable[..., Any], **options: Any) -> Rows:
        assert options["batch_size"] == 1
        actor = kind(*options["fn_constructor_args"])
        batches = (actor({"shard": [row["shard"]]}) for row in self._rows)
        return Rows([{name: cells[0] for name, cells in batch.items()} for batch in batches])

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Ray that runs everything in this process, and the arguments of its start."""
    started: list[dict[str, Any]] = []
    ray = ModuleType("ray")
    data = ModuleType("ray.data")
    data.from_items = lambda rows, **_: Rows(rows)  # type: ignore[attr-defined]
    data.ActorPoolStrategy = dict  # type: ignore[attr-defined]
    ray.data = data  # type: ignore[attr-defined]
    ray.is_initialized = lambda: len(started) > 1  # type: ignore[attr-defined]
    ray.init = lambda **options: started.append(options)  # type: ignore[attr-defined]
    ray.get = lambda value: value  # type: ignore[attr-defined]
    ray.remote = lambda **_: lambda work: SimpleNamespace(remote=work)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    return SimpleNamespace(started=started)


def test_results_are_those_of_workers(
    ctc: AsrPipeline, tmp_path: Path, double: SimpleNamespace
) -> None:
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
    again = transcribe_on_ray(load, many, settings(source), Cluster(address="auto"))
    assert (again.done, again.left) == (0, 0)
    assert double.started[1] == {"address": "auto"}
    with pytest.raises(UsageError, match="began with shard_seconds"):
        transcribe_on_ray(load, many, settings(source, shard_seconds=1.0), Cluster())


def test_a_shard_that_fails_is_reported(
    ctc: AsrPipeline, tmp_path: Path, double: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
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


def test_the_command(auris: Auris, tmp_path: Path, double: SimpleNamespace) -> None:
    source, out = write_corpus(str(tmp_path)), tmp_path / "run"
    call = ("scale", "run", "--input", source, "--output", out, "--shard-seconds", 5)
    done = auris(*call, "-m", "tiny-ctc", "--most-actors", 2)
    assert done.code == 0
    assert "0 are left" in done.err
    assert auris("batch", "status", out).code == 0


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[ray\]"):
        transcribe_on_ray(lambda: None, "a", settings("a"), Cluster())  # type: ignore[arg-type]


@pytest.mark.no_cover
@real_ray
def test_killed_actors_lose_nothing(auris: Auris, tmp_path: Path) -> None:
    """Two actors of a real Ray, killed at random; the results are those of one process."""
    import psutil

    source = write_corpus(str(tmp_path))
    options = ["--input", source, "--shard-seconds", "1", "-m", "tiny-ctc", "--output"]
    assert auris("batch", *options, tmp_path / "one").code == 0
    call = [*PROGRAM, "scale", "run", "--most-actors", "2", "--least-actors", "2", *options]
    # A busy machine takes long to start Ray.
    patience = {"RAY_raylet_start_wait_time_s": "300", "RAY_AUTH_MODE": "disabled"}
    environment = {**os.environ, **patience, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    with open(log, "wb") as file:
        program = subprocess.Popen(
            [*call, str(tmp_path / "many")], env=environment, stdout=file, stderr=file
        )
    rng = random.Random(1)
    killed = 0
    while program.poll() is None and killed < KILLS:
        for process in _actors(psutil, program.pid)[:1]:
            time.sleep(rng.uniform(0, 2))
            if process.is_running():
                process.send_signal(signal.SIGKILL)
                killed += 1
        time.sleep(0.05)
    assert program.wait(timeout=300) == 0, log.read_text(errors="replace")[-4000:]
    assert killed > 0
    assert merged(str(tmp_path / "many")) == merged(str(tmp_path / "one"))


def _actors(psutil: Any, parent: int) -> list[Any]:
    """The processes of actors below a program."""
    try:
        children = psutil.Process(parent).children(recursive=True)
        return [child for child in children if "ShardActor" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []
