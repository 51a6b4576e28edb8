"""Slow and expensive requests do not delay others, nor the end of the server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from auris.audio.isolation import TurnOver
from auris.server import audio_routes
from auris.server.calls import Call
from auris.server.errors import ClientDisconnected
from auris.server.pools import unless_disconnected
from auris.server.settings import Settings
from auris.server.upload_validation import DecodeContext
from tests.server.live import EXAMPLE_TEXT, Live, running, speech, until


class Slow:
    """Replaces decoding: recordings with a certain content wait until they are released."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.begun = 0
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, file: Any, *given: Any) -> Any:
        file.seek(0)
        if file.read() == b"slow":
            with self._lock:
                self.begun += 1
            self.go.wait(60)
        return self._real(file, *given)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(audio_routes.measured)
    monkeypatch.setattr(audio_routes, "measured", slow)
    yield slow
    slow.go.set()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as callers:
        yield callers


def _settings(tmp_path: Path) -> Settings:
    return Settings(models=("tiny",), device="cpu", lm="none", state_dir=str(tmp_path))


@pytest.mark.parametrize("lane", [0, 3])
def test_slow_recordings_do_not_delay_cheap_requests(
    tmp_path: Path, slow: Slow, callers: ThreadPoolExecutor, lane: int
) -> None:
    """With one pool of four threads, sixteen of them blocked all other requests."""
    with running(_settings(tmp_path)) as live:
        live.server.pools.decoding = live.server.pools.decoding[lane:]
        pending = [callers.submit(live.transcribe, b"slow") for _ in range(16)]
        until(lambda: slow.begun >= 2)
        with live.client() as client:
            for path in ("/health", "/metrics", "/v1/models", "/v1/jobs"):
                assert client.get(path).status_code == 200
            assert client.get("/v1/jobs/job_none").status_code == 404
        slow.go.set()
        assert {answer.result().status_code for answer in pending} == {400}


@pytest.mark.parametrize("lane", [1, 2])
def test_cheap_recordings_are_decoded_during_expensive_ones(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    callers: ThreadPoolExecutor,
    example: bytes,
    lane: int,
) -> None:
    """The example needs the CPU time of one lane and the other recordings more, from one client."""
    real, go, begun = audio_routes.measured, threading.Event(), threading.Semaphore(0)

    long = speech(3)

    def measured(file: Any, apart: bool, context: DecodeContext, *given: Any) -> Any:
        expensive = file.seek(0, os.SEEK_END) == len(long)
        lanes = [one.turn_seconds for one in live.server.pools.decoding]
        if context.turn_seconds < lanes[lane + expensive]:
            raise TurnOver
        if expensive:
            begun.release()
            go.wait(60)
        return real(file, apart, context, *given)

    monkeypatch.setattr(audio_routes, "measured", measured)
    with running(_settings(tmp_path)) as live:
        pending = [callers.submit(live.transcribe, long) for _ in range(8)]
        assert begun.acquire(timeout=60)
        assert live.transcribe(example).json()["text"] == EXAMPLE_TEXT
        go.set()
        assert {answer.result().status_code for answer in pending} == {200}


def test_recordings_of_disconnected_clients_are_not_decoded(
    tmp_path: Path, slow: Slow, callers: ThreadPoolExecutor
) -> None:
    with running(_settings(tmp_path)) as live:
        left: list[Future[None]] = [callers.submit(_leave, live) for _ in range(12)]
        for one in left:
            one.result(60)
        noticed = 'route="/v1/audio/transcriptions",status="499"} 12.0'
        until(lambda: noticed in httpx.get(f"{live.url}/metrics").text)
        first = slow.begun
        assert first <= 4
        slow.go.set()
        assert live.transcribe(b"no audio").status_code == 400
        assert slow.begun == first


def test_a_slow_recording_leaves_the_lane_of_short_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: bytes
) -> None:
    """The CPU time of three lanes is used up before the first block."""
    real, lanes = audio_routes.measured, []

    def measured(*given: Any) -> Any:
        lanes.append(re.split("[-_]", threading.current_thread().name)[1])
        return real(*given)

    monkeypatch.setattr(audio_routes, "measured", measured)
    with running(_settings(tmp_path)) as live:
        for lane in live.server.pools.decoding[:-1]:
            lane.turn_seconds = 0.0
        assert live.transcribe(example).json()["text"] == EXAMPLE_TEXT
        assert lanes == ["decode1", "decode2", "decode3", "decode4"]
        with live.client() as client:
            answer = client.post("/v1/jobs", files={"file": example}, data={"model": "tiny"})
        assert answer.status_code == 202
        assert live.server.spool.used == 0


def _leave(live: Live) -> None:
    with pytest.raises(httpx.ReadTimeout), live.client() as client:
        client.post(
            "/v1/audio/transcriptions",
            files={"file": b"slow"},
            data={"model": "tiny"},
            timeout=httpx.Timeout(60, read=0.5),
        )


def test_shutdown_does_not_wait_for_decoding(
    tmp_path: Path, slow: Slow, callers: ThreadPoolExecutor
) -> None:
    with running(_settings(tmp_path), timeout_graceful_shutdown=1) as live:
        pending = callers.submit(live.transcribe, b"slow")
        until(lambda: slow.begun)
    assert not slow.go.is_set()
    answer = pending.result(60)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "server_stopping"


@pytest.mark.parametrize("stream", [False, True])
def test_requests_not_finished_at_shutdown_get_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    callers: ThreadPoolExecutor,
    example: bytes,
    stream: bool,
) -> None:
    begun = threading.Event()

    def run(call: Call, *given: Any) -> None:
        begun.set()
        call.cancelled.wait(60)
        raise ClientDisconnected

    monkeypatch.setattr(Call, "run", run)
    with running(_settings(tmp_path), timeout_graceful_shutdown=1) as live:
        pending = callers.submit(live.transcribe, example, stream=stream)
        assert begun.wait(60)
    answer = pending.result(60)
    if stream:
        assert answer.status_code == 200
        (event,) = answer.text.strip().split("\n\n")
        result = json.loads(event.removeprefix("data: "))
    else:
        assert answer.status_code == 503
        result = answer.json()
    assert result["error"]["code"] == "server_stopping"
    assert result["error"]["type"] == "server_error"


def test_work_that_fails_after_its_client_left_is_not_a_loop_error() -> None:
    result: list[dict[str, Any]] = []

    async def call() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: result.append(context))
        work: Future[int] = Future()

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnected):
            await unless_disconnected(receive, work)
        assert work.cancelled()

    asyncio.run(call())
    assert not result
