"""The server answers every malformed request with a 4xx and continues."""

from __future__ import annotations

import contextlib
import gc
import socket
from pathlib import Path

import pytest

from tests.server.live import EXAMPLE_TEXT, Live
from tests.server.malformed import Maker


def _status(live: Live, sent: bytes) -> int:
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        with contextlib.suppress(ConnectionError):  # It may answer before it has read everything.
            connection.sendall(sent)
        received = b""
        while b"\r\n" not in received:
            more = connection.recv(4096)
            if not more:
                break
            received += more
    assert received.startswith(b"HTTP/1.1 "), received
    return int(received.split()[1])


@pytest.mark.parametrize("kind", sorted(Maker(0).kinds))
def test_each_wrong_request_is_a_4xx(live: Live, kind: str) -> None:
    maker = Maker(1)
    for _ in range(4):
        sent = maker.kinds[kind]()
        status = _status(live, sent)
        assert 400 <= status < 500, (kind, status, sent[:500])


def test_malformed_requests_leave_no_files_or_budget_behind(live: Live, example: bytes) -> None:
    maker = Maker(2)
    files = Path("/proc/self/fd")
    if not files.exists():
        pytest.skip("open files cannot be counted here")
    gc.collect()
    before = len(list(files.iterdir()))
    for _ in range(60):
        _status(live, maker.one()[1])
    gc.collect()
    assert len(list(files.iterdir())) <= before + 3
    assert live.server.gate.seconds == 0
    assert live.transcribe(example).json()["text"] == EXAMPLE_TEXT
