"""What a Wyoming server refuses, its limits, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioFormat, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event, Eventable

import auris as package
from auris import AsrPipeline
from auris.audio.activity import BlockDetector, block_detector
from auris.audio.io import load
from auris.errors import UsageError
from auris.wyoming.events import MOST_PART_BYTES
from auris.wyoming.server import Address
from auris.wyoming.service import Limits, WyomingModel
from auris.wyoming.transcription import Transcription, WyomingRequest
from tests.cli.command import Auris, is_one_sentence
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, until
from tests.wyoming.live import Running, running
from tests.wyoming.talk import Client, pcm, talk

FORM = {"rate": 16_000, "width": 2, "channels": 1}
START = AudioStart(**FORM)
AUDIO = bytes(32_000)


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Auris:
    """`auris` in this process."""
    return Auris(capsys)


def chunk(audio: bytes, rate: int = 16_000) -> AudioChunk:
    return AudioChunk(rate, 2, 1, audio)


@pytest.mark.parametrize(
    ("events", "code", "said"),
    [
        ([Transcribe(name="large")], "unknown_model", "'tiny', 'tiny-ctc'"),
        ([Transcribe(language="xx"), START], "invalid_request", "'xx'"),
        ([Transcribe(language="de"), START], "invalid_request", "German"),
        ([Event("transcribe", {"language": 7})], "invalid_event", "language"),
        ([Event("transcribe", {"transcript_names": [1]})], "invalid_event", "transcript_names"),
        ([Event("transcribe", {"transcript_terms": ["a" * 999]}), START], "invalid_request", "999"),
        ([START, Transcribe()], "invalid_event", "transcribe has to come before"),
        ([START, START], "invalid_event", "audio-stop of the audio before"),
        ([AudioStop()], "invalid_event", "without audio-start"),
        ([AudioStart(50, 2, 1)], "unsupported_audio", "50"),
        ([AudioStart(16_000, 5, 1)], "unsupported_audio", "width"),
        ([AudioStart(16_000, 2, 0)], "unsupported_audio", "channels"),
        ([Event("audio-start")], "unsupported_audio", "width"),
        ([Event("audio-start", {**FORM, "width": True})], "unsupported_audio", "width"),
        ([Event("audio-start", {**FORM, "channels": True})], "unsupported_audio", "channels"),
        ([START, chunk(AUDIO, 8000)], "unsupported_audio", "changes"),
        ([START, chunk(b"abc")], "unsupported_audio", "middle of a sample"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_events_have_errors(
    served: Running, events: list[Eventable], code: str, said: str
) -> None:
    async def ask(client: Client) -> tuple[str | None, str]:
        await client.send(*events)
        error = await client.error()
        return error.code, error.text

    found, text = talk(served.uri, ask)
    assert found == code, text
    assert said in text
    assert text.endswith(".")
    until(lambda: served.server.service.active == 0)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"[]\n",
        b"{}\n",
        b'{"type": 1}\n',
        b'{"type": "ping", "data": []}\n',
        b'{"type": "ping", "data_length": "x"}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 200_000,
        b'{"type": "ping", "data": {"text": "\\ud800"}}\n',
        b'{"type": "ping", "data": {"text": 7}}\n',
        b'{"type": "transcribe", "data": {"transcript_names": ["\\ud800"]}}\n',
        b'{"type": "audio-chunk", "payload_length": %d}\n' % (MOST_PART_BYTES + 1),
        b'{"type": "audio-chunk", "payload_length": 1.5}\n',
    ],
    ids=lambda data: data[:24].decode(),
)
def test_other_protocols_and_broken_events_have_errors(served: Running, data: bytes) -> None:
    async def ask(client: Client) -> str | None:
        assert client.client._writer is not None
        client.client._writer.write(data)
        return (await client.error()).code

    expected = "event_too_large" if b'payload_length": 4' in data else "invalid_event"
    assert talk(served.uri, ask) == expected


def test_a_client_that_goes_on_sending_reads_the_error(served: Running) -> None:
    async def ask(client: Client) -> str | None:
        await client.send(AudioStart(16_000, 9, 1))
        for _ in range(30):
            await client.send(chunk(AUDIO))
            await asyncio.sleep(0.005)
        return (await client.error()).code

    assert talk(served.uri, ask) == "unsupported_audio"


def test_a_client_that_never_ends_sending_is_disconnected(
    tiny: AsrPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auris.wyoming.connection.CLOSE_SECONDS", 0.1)

    async def send(client: Client) -> None:
        await client.send(AudioStop())
        while True:
            await client.send(chunk(AUDIO))

    async def ask(client: Client) -> None:
        await asyncio.wait_for(send(client), 30)

    with running(tiny) as server:
        with pytest.raises(ConnectionError):
            talk(server.uri, ask)
        until(lambda: not server.server._connections)


def test_an_event_that_breaks_off_ends_the_connection(served: Running) -> None:
    async def ask(client: Client) -> list[Event]:
        assert client.client._writer is not None
        client.client._writer.write(b'{"type": "audio-chunk", "payload_length": 100}\nabc')
        client.client._writer.write_eof()
        return await client.until()

    assert talk(served.uri, ask) == []


def test_the_length_and_the_number_of_transcriptions_are_limited(tiny: AsrPipeline) -> None:
    async def too_long(client: Client) -> str | None:
        await client.speak(AUDIO * 3)
        return (await client.error()).code

    async def busy(uri: str) -> str | None:
        async with AsyncClient.from_uri(uri) as first, AsyncClient.from_uri(uri) as second:
            await first.write_event(START.event())
            # Its answer comes after the stream is open.
            await first.write_event(Event("describe"))
            await first.read_event()
            await second.write_event(START.event())
            return (await Client(second).error()).code

    with running(tiny, limits=Limits(streams=1, audio_seconds=2.0)) as server:
        assert talk(server.uri, too_long) == "audio_too_long"
        assert asyncio.run(busy(server.uri)) == "busy"
        until(lambda: server.server.service.active == 0)


def test_idle_time_is_limited(tiny: AsrPipeline) -> None:
    async def idle(client: Client) -> str | None:
        return (await client.error()).code

    with running(tiny, limits=Limits(streams=1, idle_seconds=0.5)) as server:
        assert talk(server.uri, idle) == "idle"


def test_audio_that_is_complete_is_finished_when_the_server_stops(
    tiny: AsrPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = pcm(np.concatenate([load(EXAMPLE).samples] * 2))
    finish = Transcription.finish
    with running(tiny) as server:

        async def stop_and_finish(transcription: Transcription) -> list[Event]:
            server.stop()
            await server.server.service.stopping.wait()
            return await finish(transcription)

        monkeypatch.setattr(Transcription, "finish", stop_and_finish)
        text = talk(server.uri, lambda client: client.transcribe(audio))
    assert text.count("kitchen") == 2


def test_open_audio_ends_with_an_error_when_the_server_stops(tiny: AsrPipeline) -> None:
    with running(tiny) as server:

        async def open_audio(client: Client) -> str | None:
            await client.speak(AUDIO)
            await client.send(Event("ping"))
            await client.until("pong")
            server.stop()
            return (await client.error()).code

        assert talk(server.uri, open_audio) == "server_stopping"


@pytest.mark.parametrize("iterations", range(6))
def test_a_client_that_connects_while_the_server_stops_is_disconnected(
    tiny: AsrPipeline, iterations: int
) -> None:
    """The server stops some iterations of the event loop after a client has connected."""
    connected: Future[socket.socket] = Future()
    with running(tiny) as served:
        host, port = served.uri.removeprefix("tcp://").split(":")

        def stop_after(count: int) -> None:
            if count:
                served.loop.call_soon(stop_after, count - 1)
            else:
                served.server.stop()

        def connect() -> None:
            connected.set_result(socket.create_connection((host, int(port)), 10))
            stop_after(iterations)

        served.loop.call_soon_threadsafe(connect)
        with connected.result(30) as client:
            client.settimeout(30)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
    gc.collect()  # A connection that is still open gives a warning, which is an error here.


@pytest.mark.parametrize(
    "uri",
    ["127.0.0.1:10300", "tcp://127.0.0.1", "tcp://:1", "http://a:1", "unix://", "tcp://a:99999"],
)
def test_a_wrong_uri_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="uri has to be tcp://HOST:PORT"):
        Address(uri)


def test_a_taken_port_is_an_error(
    served: Running, command_line: Auris, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command configures the log of the whole process.
    unchanged = {"version": 1, "incremental": True}
    monkeypatch.setattr("auris.wyoming.server.log_config", lambda _: unchanged)
    done = command_line("wyoming", "--uri", served.uri, "--model", "tiny")
    assert done.code == 2
    is_one_sentence(done.err, "cannot listen at", "choose another --uri")


def test_a_missing_detector_is_named(command_line: Auris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auris.audio.activity.silero_file", lambda: None)
    done = command_line("wyoming", "--model", "tiny", "--vad-model", "silero")
    assert done.code == 1
    is_one_sentence(done.err, "needs the package silero-vad", "auris-asr[vad]")


def test_streams_use_the_chosen_detector(
    tiny: AsrPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []

    def detector(name: str) -> BlockDetector:
        chosen.append(name)
        return block_detector("energy")

    monkeypatch.setattr("auris.audio.segmentation.block_detector", detector)
    monkeypatch.setattr("auris.audio.segmentation.chosen_model", str)
    request = WyomingRequest(WyomingModel.of(tiny, 1, vad_model="silero"))

    async def begin() -> None:
        await (await Transcription.begin(request, AudioFormat(16_000, 2, 1))).close()

    asyncio.run(begin())
    assert chosen == ["silero"]


def test_a_missing_package_is_named(command_line: Auris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auris.cli.wyoming.find_spec", lambda _: None)
    done = command_line("wyoming")
    assert done.code == 1
    is_one_sentence(done.err, "auris-asr[wyoming]")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal(tmp_path: Path, kind: signal.Signals) -> None:
    log = tmp_path / "log"
    source = str(Path(package.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    options = ("--uri", "tcp://127.0.0.1:0", "--model", "tiny", "--device", "cpu")
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "auris", "wyoming", *options],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        until(lambda: "server at" in log.read_text() or process.poll() is not None, 100)
        found = re.search(r"server at (tcp://\S+)", log.read_text())
        assert found, log.read_text()
        audio = pcm(load(EXAMPLE).samples)
        assert talk(found[1], lambda client: client.transcribe(audio)) == EXAMPLE_TEXT

        async def interrupted(client: Client) -> str | None:
            await client.speak(audio)
            await client.send(Event("ping"))
            await client.until("pong")
            process.send_signal(kind)
            return (await client.error()).code

        assert talk(found[1], interrupted) == "server_stopping"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "has stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
