"""Idle and slow connections are closed and do not block others."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from auris.server import connections, middleware
from auris.server.connections import most_connections
from auris.server.settings import Settings
from tests.server.live import Live, running, until
from tests.server.test_program import POSIX, SERVE, serving

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
UPLOAD = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)
SECONDS = 60
"""For what ends much sooner; the limits themselves are shortened."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(middleware, "SILENT_SECONDS", 0.3)


def _connection(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), SECONDS)


def _trickle(connection: socket.socket, sent: bytes) -> bytes:
    """Send a byte at a time until the server closes the connection; return its response."""
    connection.settimeout(0.02)
    end = time.monotonic() + SECONDS
    answer = b""
    for byte in iter(lambda: sent, None):
        assert time.monotonic() < end, "the server keeps the connection"
        try:
            connection.sendall(byte)
            more = connection.recv(1 << 16)
        except TimeoutError:
            continue
        except OSError:
            return answer
        if not more:
            return answer
        answer += more
    raise AssertionError


@pytest.mark.usefixtures("impatient")
def test_an_idle_connection_is_closed(live: Live) -> None:
    with _connection(live.url) as connection:
        assert connection.recv(1) == b""


@pytest.mark.usefixtures("impatient")
def test_a_slow_header_is_timed_out(live: Live) -> None:
    with _connection(live.url) as connection:
        connection.sendall(HEAD + b"X: ")
        assert _trickle(connection, b"x") == b""


@pytest.mark.usefixtures("impatient")
def test_a_slow_header_on_a_reused_connection_is_timed_out(live: Live) -> None:
    with _connection(live.url) as connection:
        connection.sendall(HEAD + b"\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(4096)
        connection.sendall(HEAD + b"X: ")
        assert _trickle(connection, b"x") == b""


@pytest.mark.usefixtures("impatient")
def test_a_slow_body_after_the_response_is_timed_out(live: Live) -> None:
    with _connection(live.url) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        assert _trickle(connection, b"x").startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("impatient")
def test_a_slow_body_is_refused(live: Live) -> None:
    with _connection(live.url) as connection:
        connection.sendall(UPLOAD)
        answer = _trickle(connection, b"x")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"more slowly than" in answer


@pytest.mark.usefixtures("impatient")
def test_a_stalled_body_is_refused(live: Live) -> None:
    with _connection(live.url) as connection:
        connection.sendall(UPLOAD)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_read_its_response_is_disconnected(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, lost = 2000, []
    real = connections.GuardedHttp.connection_lost

    def connection_lost(protocol: connections.GuardedHttp, error: Exception | None) -> None:
        lost.append(protocol.client)
        real(protocol, error)

    monkeypatch.setattr(connections.GuardedHttp, "connection_lost", connection_lost)
    with _connection(live.url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(2)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.suppress(OSError):
            connection.sendall(request * requests)
        until(lambda: connection.getsockname() in lost, SECONDS)
        connection.settimeout(SECONDS)
        answered = 0
        with contextlib.suppress(OSError):
            while more := connection.recv(1 << 20):
                answered += more.count(b"HTTP/1.1 200")
    assert answered < requests


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Live]:
    settings = Settings(models=("tiny",), device="cpu", state_dir=str(tmp_path))
    with running(settings, limit_concurrency=8) as server:
        yield server


def test_a_new_connection_replaces_the_longest_idle_one(small: Live) -> None:
    idle = [_connection(small.url) for _ in range(30)]
    with small.client() as client:
        assert client.get("/health").status_code == 200
    assert idle[0].recv(1) == b""
    idle[-1].sendall(HEAD + b"\r\n")
    assert idle[-1].recv(4096).startswith(b"HTTP/1.1 200")
    for connection in idle:
        connection.close()


def test_a_connection_over_the_limit_is_answered_when_all_are_busy(small: Live) -> None:
    busy = [_connection(small.url) for _ in range(7)]
    for connection in busy:
        connection.sendall(UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")  # The form is being read.
    with small.client() as client:
        for _ in range(5):
            answer = client.get("/health")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "server_busy"
    for connection in busy:
        connection.close()


@POSIX
def test_the_server_answers_with_more_connections_than_file_descriptors(tmp_path: Path) -> None:
    """Of 400 connections, all without a request, and a limit of 256 open files."""
    command = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", *SERVE]
    with serving(tmp_path, command=command) as server:
        idle = [_connection(server.url) for _ in range(400)]
        with httpx.Client(base_url=server.url, timeout=SECONDS) as client:
            assert client.get("/health").status_code == 200
        for connection in idle:
            connection.close()
        log = server.log()
    assert len(log.splitlines()) < 50, log[:5000]
    assert "Traceback" not in log


def test_failing_accepts_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = connections._AcceptErrors()
    error = OSError(24, os.strerror(24))
    context = {"message": "socket.accept() out of system resource", "exception": error}
    for _ in range(1000):
        handler(None, context)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Too many open files" in caplog.text


def test_the_connection_limit_depends_on_the_file_descriptor_limit() -> None:
    assert 16 <= most_connections() <= 8192 // 3
