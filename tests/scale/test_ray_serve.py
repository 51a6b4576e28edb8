"""The server on Ray Serve: by a double of it in this process, and by a real one."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from auris.errors import EngineError, MissingExtra, UsageError
from auris.scale.ray_cluster import Cluster
from auris.scale.ray_serve import Replica, replica_settings, serve_on_ray
from auris.server.settings import Settings
from tests.audio.media import wav
from tests.cli.command import PROGRAM, Auris
from tests.scale.ray_double import Double
from tests.scale.real_ray import PATIENCE
from tests.server.talk import DONE, spoken, talk
from tests.tiny_models import tone_speech

HAS_SERVE = importlib.util.find_spec("ray") and importlib.util.find_spec("ray.serve")

needs_serve = pytest.mark.skipif(not HAS_SERVE, reason="needs ray[serve]")

RECORDING = {"file": ("a.wav", wav(tone_speech(1.0, 1)[None]))}


@pytest.fixture
def auris(capsys: pytest.CaptureFixture[str]) -> Auris:
    """The command line."""
    return Auris(capsys)


@pytest.fixture
def settings(ctc_directory: Path, tmp_path: Path) -> Settings:
    """A server with a tiny model."""
    return Settings((str(ctc_directory),), port=0, device="cpu", state_dir=tmp_path / "state")


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log on standard error would outlive the test."""
    monkeypatch.setattr(
        "auris.server.log.log_config", lambda _: {"version": 1, "incremental": True}
    )


def test_a_replica_answers_as_the_server(double: Double, settings: Settings) -> None:
    answers: list[Any] = []

    def wait(address: str) -> None:
        assert double.http is not None
        assert address == f"http://127.0.0.1:{double.http['port']}"
        with TestClient(double.replica.app, base_url="http://localhost") as client:
            data = {"model": "ctc"}
            answers.append(client.post("/v1/audio/transcriptions", files=RECORDING, data=data))
            answers.append(client.get("/v1/jobs"))
            double.replica.check_health()
        with pytest.raises(EngineError, match="An engine has stopped"):
            double.replica.check_health()

    serve_on_ray(settings, Cluster(least=2, most=5, cpus=2, gpus=0.5), 7, wait)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert double.http is None
    assert not double.connected
    assert double.started[0]["num_cpus"] == 10


def test_the_deployment(double: Double, settings: Settings) -> None:
    deployments: list[Any] = []
    cluster = Cluster(least=2, most=5, cpus=2, gpus=0.5)
    serve_on_ray(settings, cluster, 7, lambda _: deployments.append(double.application))
    (deployment,) = deployments
    assert issubclass(deployment.kind, Replica)
    assert deployment.options == {
        "name": "auris",
        "autoscaling_config": {
            "min_replicas": 2,
            "max_replicas": 5,
            "target_ongoing_requests": 7,
        },
        "max_ongoing_requests": 14 + settings.most_realtime_sessions,
        "ray_actor_options": {"num_cpus": 2, "num_gpus": 0.5},
        "graceful_shutdown_timeout_s": settings.stop_seconds,
    }


def test_on_a_cluster_there_are_no_jobs(double: Double, ctc_directory: Path) -> None:
    settings = Settings((str(ctc_directory),), port=8123, device="cpu")
    codes: list[int] = []

    def wait(address: str) -> None:
        assert address == "http://127.0.0.1:8123"
        with TestClient(double.replica.app, base_url="http://localhost") as client:
            codes.extend(client.get(path).status_code for path in ("/v1/models", "/v1/jobs", "/"))

    serve_on_ray(settings, Cluster("auto"), 1, wait)
    assert codes == [200, 404, 404]
    assert double.started == [{"address": "auto"}]
    for changed, message in (
        ({"port": 0}, "port is 0"),
        ({"state_dir": "state"}, "state_dir is given"),
    ):
        with pytest.raises(UsageError, match=message):
            replica_settings(Settings(**changed), Cluster("auto"))


def test_a_ray_that_runs_already_stays(double: Double, settings: Settings) -> None:
    double.init()
    serve_on_ray(settings, Cluster(), 1, lambda _: None)
    assert double.connected
    double.http = {"port": 8000}
    with pytest.raises(UsageError, match="no Ray Serve yet"):
        serve_on_ray(settings, Cluster(), 1, lambda _: None)
    assert double.http == {"port": 8000}


def test_the_error_of_a_replica_is_told(double: Double, settings: Settings) -> None:
    double.refused = ValueError("no room")
    with pytest.raises(EngineError, match="but Deploying app 'auris' failed: no room: correct"):
        serve_on_ray(settings, Cluster(), 1, lambda _: None)
    double.message = "Traceback:\n  File\nauris.errors.UnknownModel: 'a' is no model: name one.\n"
    with pytest.raises(EngineError, match="but 'a' is no model: name one: correct that"):
        serve_on_ray(settings, Cluster(), 1, lambda _: None)
    assert double.http is None


def test_without_ray_serve_the_extra_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[ray-serve\]"):
        serve_on_ray(settings, Cluster(), 1, lambda _: None)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command(
    auris: Auris,
    double: Double,
    ctc_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    write = sys.stderr.write

    def written(text: str) -> int:
        if "answers at" in text:
            assert double.application is not None
            signal.raise_signal(number)
        return write(text)

    monkeypatch.setattr(sys.stderr, "write", written)
    before = signal.getsignal(signal.SIGTERM)
    call = ("scale", "serve", "-m", ctc_directory, "--port", 0, "--state-dir", tmp_path / "state")
    assert auris(*call, "--most-replicas", 3, "--batch-size", 4).code == code
    assert signal.getsignal(signal.SIGTERM) == before
    assert double.application is None


def test_wrong_usage(auris: Auris, double: Double, tmp_path: Path) -> None:
    for arguments, message in (
        (("--host", "0.0.0.0"), "needs keys"),
        (("--ray-address", "auto", "--port", 0), "--port is 0"),
        (("--ray-address", "auto", "--state-dir", tmp_path), "--state-dir is given"),
        (("--target-requests", 0), "--target-requests"),
        (("--workers", 2), "--workers"),
    ):
        done = auris("scale", "serve", *arguments)
        assert done.code == 2, arguments
        assert message in done.err
    assert not double.started


@pytest.mark.no_cover
@needs_serve
def test_a_real_ray_serve(ctc_directory: Path, tmp_path: Path) -> None:
    """Replicas of a real Ray answer calls and WebSockets, and end with the command."""
    call = [*PROGRAM, "scale", "serve", "-m", str(ctc_directory), "--port", "0", "--device", "cpu"]
    call += ["--state-dir", str(tmp_path / "state"), "--most-replicas", "2"]
    log = tmp_path / "log"
    with open(log, "wb") as file:
        program = subprocess.Popen(call, env={**os.environ, **PATIENCE}, stderr=file, stdout=file)
    try:
        address = _address(program, log)
        with httpx.Client(base_url=address, timeout=120) as client:
            data = {"model": ctc_directory.name}
            answer = client.post("/v1/audio/transcriptions", files=RECORDING, data=data)
            assert answer.status_code == 200, answer.text
            assert client.get("/health").json() == {"status": "ok"}
        with talk(address, open_timeout=120) as session:
            assert session.item(spoken())[-1]["type"] == DONE
    finally:
        program.send_signal(signal.SIGTERM)
        code = program.wait(120)
    assert code == 0, log.read_text(errors="replace")[-4000:]


def _address(program: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the program tells when it is ready."""
    while program.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if "Ray Serve answers at " in line:
                return line.rpartition(" ")[2]
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.2)
    raise AssertionError(log.read_text(errors="replace")[-4000:])
