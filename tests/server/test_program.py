"""`auris serve` as a program: start, shutdown and errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import auris
from auris.audio.io import load
from tests.cli.command import Auris
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, speech, until
from tests.server.malformed import form, request
from tests.server.talk import spoken, talk

SERVE = [sys.executable, "-m", "auris", "serve", "--model", "tiny", "--device", "cpu"]
SERVE += ["--lm", "none"]  # A search takes twice as long; other tests have it.
STARTED = "Application startup complete"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")


class Program:
    """A running `auris serve`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        until(lambda: self._address() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        address = self._address()
        assert address is not None
        self.url = address.group(1)
        self.client = httpx.Client(base_url=self.url, timeout=60)
        until(self._answers, 60)

    def _address(self) -> re.Match[str] | None:
        return re.search(r"running on (http://[\w.:]+)", self._log.read_text())

    def _answers(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def transcribe(self, data: bytes) -> httpx.Response:
        return self.client.post(
            "/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data={"model": "tiny"}
        )

    def log(self) -> str:
        return self._log.read_text()


def _environment() -> dict[str, str]:
    """Of a process that runs this package."""
    source = str(Path(auris.__file__).parents[1])
    inherited = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": inherited, "PYTHONUNBUFFERED": "1"}


@contextmanager
def serving(
    tmp_path: Path, *options: str, command: list[str] = SERVE, **environment: str
) -> Iterator[Program]:
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*command, "--port", "0", "--state-dir", str(tmp_path / "state"), *options],
            stdout=file,
            stderr=file,
            text=True,
            env=_environment() | environment,
        )
    started: Program | None = None
    try:
        started = Program(process, log)
        yield started
    finally:
        if started is not None:
            started.client.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@POSIX
def test_sigterm_lets_active_requests_finish(tmp_path: Path) -> None:
    data = speech(12)
    accepted = f"auris_audio_seconds_accepted_total {4 * load(data).seconds}"
    with serving(tmp_path) as running, ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(running.transcribe, data) for _ in range(4)]
        until(lambda: accepted in running.client.get("/metrics").text)
        running.process.send_signal(signal.SIGTERM)
        answers = [call.result() for call in calls]
        assert running.process.wait(30) == -signal.SIGTERM or running.process.returncode == 0
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(answer.json()["text"].count("kitchen") > 5 for answer in answers)
    assert "Traceback" not in running.log()


@POSIX
def test_sigterm_closes_realtime_sessions_with_an_event(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        with talk(running.url) as session:
            session.update(include=("auris.provisional",))
            session.append(spoken(2))
            session.until("auris.provisional")
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                session.until("error")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert running.process.wait(30) == -signal.SIGTERM or running.process.returncode == 0
    assert "WEBSOCKET /v1/realtime 101 1012" in running.log()
    assert "intent=" not in running.log()
    assert "Traceback" not in running.log()


@POSIX
def test_no_job_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    """Kill the server while jobs are queued and running; the next server finishes all of them."""
    with serving(tmp_path, "--chunk-seconds", "5") as running:
        expected = running.transcribe(speech(6)).json()["text"]
        jobs = [
            running.client.post(
                "/v1/jobs", files={"file": ("a.wav", speech(6))}, data={"model": "tiny"}
            ).json()["id"]
            for _ in range(6)
        ]
        running.process.kill()
        running.process.wait()
    with closing(sqlite3.connect(tmp_path / "state" / "jobs.sqlite")) as database:
        statuses = {status for (status,) in database.execute("SELECT status FROM jobs")}
    assert {"queued", "running"} <= statuses
    with serving(tmp_path, "--chunk-seconds", "5") as again:
        for job in jobs:
            place = f"/v1/jobs/{job}"
            until(lambda place=place: again.client.get(place).json()["finished_at"], 60)
            assert again.client.get(f"{place}/result").json()["text"] == expected
    assert list((tmp_path / "state" / "recordings").iterdir()) == []


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of two workers; one test of its process after the other may use it."""
    with serving(
        tmp_path_factory.mktemp("workers"), "--workers", "2", "--log-format", "json"
    ) as running:
        until(lambda: running.log().count(STARTED) == 2, 60)
        yield running


@POSIX
def test_workers_share_a_port_and_their_jobs(two_workers: Program) -> None:
    found = set()
    for _ in range(10):
        with httpx.Client(base_url=two_workers.url, timeout=60) as client:
            job = client.post(
                "/v1/jobs", files={"file": EXAMPLE.read_bytes()}, data={"model": "tiny"}
            ).json()
        found.add(job["id"])
    for name in found:
        place = f"/v1/jobs/{name}"
        until(lambda place=place: two_workers.client.get(place).json()["finished_at"])
        assert two_workers.client.get(f"{place}/result").json()["text"] == EXAMPLE_TEXT


def _requests_for_models(client: httpx.Client) -> int:
    """How many requests for the list of models all processes of the server have counted."""
    sample = re.escape('auris_requests_total{method="GET",route="/v1/models",status="200"} ')
    found = re.search(sample + r"(\d+)", client.get("/metrics").text)
    return int(found.group(1)) if found else 0


@POSIX
def test_concurrent_requests_are_spread_over_workers(two_workers: Program) -> None:
    """The log names the process that answered; both answer as many. The metrics are of both."""
    before = _requests_for_models(two_workers.client)
    names = {f"spread-{number}" for number in range(64)}
    clients = [
        httpx.Client(base_url=two_workers.url, timeout=60, headers={"X-Request-Id": name})
        for name in names
    ]
    with ThreadPoolExecutor(64) as callers:
        assert all(r.is_success for r in callers.map(lambda c: c.get("/v1/models"), clients))
    # Clients get an answer before it is counted, which another process does.
    for client in clients[:8]:
        until(lambda client=client: _requests_for_models(client) >= before + 64)

    def answered() -> Counter[int]:
        """How many of these requests each process has answered."""
        lines = [json.loads(line) for line in two_workers.log().splitlines() if line[-1:] == "}"]
        own = [line for line in lines if line.get("request_id") in names]
        return Counter(line["process"] for line in own if line["route"] == "/v1/models")

    until(lambda: answered().total() == 64)
    for client in clients:
        client.close()
    assert max(answered().values()) <= 36, "connections of the start and of the checks count, too"


@POSIX
def test_a_killed_worker_is_replaced(two_workers: Program) -> None:
    """The other one answers all clients until the new one has started."""
    killed = re.findall(r"Started server process \[(\d+)\]", two_workers.log())[0]
    os.kill(int(killed), signal.SIGKILL)
    until(lambda: f"Child process [{killed}] died" in two_workers.log())
    connected, end = 0, time.monotonic() + 120
    with ExitStack() as clients:
        while two_workers.log().count(STARTED) < 3 or connected < 8:
            assert time.monotonic() < end, "no other worker has started"
            client = clients.enter_context(httpx.Client(base_url=two_workers.url, timeout=60))
            assert client.get("/v1/models").status_code == 200
            connected += 1
            time.sleep(0.1)


@POSIX
def test_sigterm_while_workers_load_ends_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [*SERVE, "--workers", "2", "--port", "0", "--state-dir", str(tmp_path / "state")]
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=_environment())
    try:
        until(lambda: log.read_text().count("Started server process") == 2, 60)
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert "Stopping parent process" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of other processes")
def test_workers_have_no_api_key_and_end_with_their_supervisor(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-that-nobody-guesses\n")
    with serving(tmp_path, "--workers", "2", AURIS_API_KEYS=str(keys)) as running:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            given = {"Authorization": "Bearer a-key-that-nobody-guesses"}
            assert client.get("/v1/models").status_code == 401
            assert client.get("/v1/models", headers=given).status_code == 200
        family = [running.process.pid, *_children(running.process.pid)]
        assert len(family) >= 3
        for process in family:
            seen = (Path("/proc") / str(process) / "environ").read_bytes()
            assert b"AURIS_API_KEYS" in seen or process != running.process.pid
            assert b"nobody-guesses" not in seen
        running.process.kill()
        until(lambda: not any(map(_runs, family)), 60)


def _runs(process: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _children(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Auris:
    """`auris` in this process."""
    return Auris(capsys)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_is_an_error(
    command_line: Auris, tmp_path: Path, workers: str, shared: bool
) -> None:
    """By any program, including one that shares its port."""
    if shared and not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("ports are not shared on this system")
    with socket.create_server(("127.0.0.1", 0), reuse_port=shared) as taken:
        port = str(taken.getsockname()[1])
        done = command_line("serve", "--workers", workers, "--port", port, "--state-dir", tmp_path)
    assert done.code == 2
    assert "The server cannot listen at" in done.err


@pytest.mark.parametrize("seconds", ["0.5", "1201", "nan"])
def test_chunk_lengths_out_of_range_are_refused_at_start(
    command_line: Auris, tmp_path: Path, seconds: str
) -> None:
    done = command_line("serve", "--chunk-seconds", seconds, "--port", "0", "--state-dir", tmp_path)
    assert done.code == 2
    assert "1 to 1200 seconds" in done.err


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="needs a file system of its own to fill")
def test_the_server_reports_a_full_disk_and_continues(tmp_path: Path) -> None:
    """Uploads and jobs get a 507, small requests work, jobs can be deleted, and everything works
    when there is space again."""
    disk = tmp_path / "state"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=24m none "{disk}" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", *SERVE]
    with serving(tmp_path, command=command, TMPDIR=str(disk)) as running:
        inside = Path(f"/proc/{running.process.pid}/root{disk}")
        large = speech(60)
        assert running.transcribe(large).status_code == 200
        done = running.client.post(
            "/v1/jobs", files={"file": EXAMPLE.read_bytes()}, data={"model": "tiny"}
        ).json()["id"]
        until(lambda: running.client.get(f"/v1/jobs/{done}").json()["status"] == "succeeded")
        filler = inside / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 12))
            except OSError:
                pass
        response = running.transcribe(large)
        assert response.status_code == 507, response.text
        assert response.json()["error"]["code"] == "insufficient_storage"
        for data in (large, EXAMPLE.read_bytes()):
            job = running.client.post(
                "/v1/jobs", files={"file": ("a.wav", data)}, data={"model": "tiny"}
            )
            assert job.status_code == 507, job.text
        assert running.transcribe(EXAMPLE.read_bytes()).json()["text"] == EXAMPLE_TEXT
        assert running.client.delete(f"/v1/jobs/{done}").json().get("deleted")
        assert running.client.get(f"/v1/jobs/{done}").status_code == 404
        filler.unlink()
        assert running.transcribe(large).status_code == 200
        assert running.client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "needs keys"),
        (("--cors-origin", "x"), "--cors-origin has to be * or an origin"),
        (("--model", "tiny", "--alias", ""), "--alias has to be"),
        (("--model", "tiny", "--alias", "tiny"), "--alias has to be"),
        (("--ssl-keyfile", "key.pem"), "certificate"),
        (("--model", "nothing-like-this"), "nothing-like-this"),
    ],
    ids=str,
)
def test_invalid_options_have_error_messages(
    command_line: Auris, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = command_line("serve", *options, "--port", 0, "--state-dir", tmp_path)
    assert done.code == 2
    assert message in done.err


def test_disconnected_and_refused_clients_and_websockets_are_logged(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as upload:
            upload.sendall(request(form(EXAMPLE.read_bytes()))[:-5000])
        until(lambda: "POST /v1/audio/transcriptions 499" in server.log())
        metrics = server.client.get("/metrics").text
        assert 'route="/v1/audio/transcriptions",status="499"} 1' in metrics
        with pytest.raises(InvalidStatus):
            connect(server.url.replace("http", "ws") + "/v1/realtime?intent=conversation")
        with talk(server.url) as session:
            session.socket.send(b"\xff\xfe", text=True)
            with pytest.raises(ConnectionClosed) as end:
                session.socket.recv(timeout=30)
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 1007
        for line in ("INFO WEBSOCKET /v1/realtime 400", "INFO WEBSOCKET /v1/realtime 101 1007"):
            until(lambda line=line: line in server.log())
        log = server.log()
    assert not re.search("ERROR|Traceback", log), log
