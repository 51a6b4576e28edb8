"""A server on its own port, in the process of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from auris.audio.io import load
from auris.server import engine, pools
from auris.server.app import create_app
from auris.server.run import CONNECTIONS
from auris.server.settings import Settings
from auris.server.state import Server
from tests.audio.media import encode, pcm

EXAMPLE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
EXAMPLE_TEXT = "switch the kitchen fan off"


@dataclass(frozen=True)
class Live:
    """A running server with its address and its internal state."""

    url: str
    server: Server

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60.0, headers=headers)

    def transcribe(self, data: bytes, **fields: object) -> httpx.Response:
        with self.client() as client:
            return client.post(
                "/v1/audio/transcriptions",
                files={"file": ("a.wav", data)},
                data={"model": "tiny", **fields},
            )


class _Program(uvicorn.Server):
    """Ends connections that are still open when it ends, such as one that a browser opened in
    advance; the loop would end before them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in self.server_state.connections:
            connection.transport.abort()
        await asyncio.sleep(0)


lower_this_thread = pools.lower_this_thread
"""The product's own, while a server of the tests has another one in its place."""


@contextmanager
def running(settings: Settings, **options: Any) -> Iterator[Live]:
    """A server with these settings, and options of uvicorn. Its threads have the priority of the
    test: lower ones would wait for the tests of other processes."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (engine, pools):
            patched.setattr(module, "lower_this_thread", lambda niceness: None)
        with _running(settings, **options) as live:
            yield live


@contextmanager
def _running(settings: Settings, **options: Any) -> Iterator[Live]:
    server = Server.load(settings)
    given = {"timeout_graceful_shutdown": 20, **CONNECTIONS, **options}
    config = uvicorn.Config(create_app(server), port=0, log_config=None, access_log=False, **given)
    program = _Program(config)
    thread = threading.Thread(target=program.run, daemon=True)
    thread.start()
    while not program.started:
        assert thread.is_alive(), "the server ended before it had begun"
        time.sleep(0.01)
    port = program.servers[0].sockets[0].getsockname()[1]
    try:
        yield Live(f"http://127.0.0.1:{port}", server)
    finally:
        program.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until a condition holds; the longer it takes, the less often it is looked at."""
    pause, end = 0.02, time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(pause)
        pause = min(1.1 * pause, 0.1)


def speech(repeats: int, pause: float = 0.6, channels: int = 1) -> bytes:
    """The example repeated, as a WAV file."""
    samples = load(EXAMPLE).samples
    gap = np.zeros(round(pause * 16_000), np.float32)
    said = np.concatenate([part for _ in range(repeats) for part in (samples, gap)])
    return encode(pcm(np.stack([said] * channels)), 16_000, "wav", "pcm_s16le")
