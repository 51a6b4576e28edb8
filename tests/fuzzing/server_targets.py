"""What clients send to the server: forms, messages of a WebSocket, and whole requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
from starlette.requests import Request

from auris.server.errors import ApiError
from auris.server.jobs.store import JobStore
from auris.server.model_registry import ModelRegistry
from auris.server.realtime.session import RealtimeSession
from auris.server.settings import Settings
from auris.server.state import Server
from auris.server.transcription_request import TranscriptionRequest, read_form
from auris.server.upload import SpoolBudget, form_of
from tests.audio.fuzzing import Uploads
from tests.audio.media import wav
from tests.fuzzing.audio_target import LOOK_EVERY, SECRET_SAMPLES
from tests.fuzzing.mutation import mutated
from tests.fuzzing.target import Target, refusable
from tests.server.malformed import BOUNDARY, Maker, form, request

MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
LONGEST_SECONDS = 600.0
"""Longest time that an answer may take."""

MOST_GROWTH_BYTES = 1 << 30
"""Memory that all processes of a server may take beyond that after the first request."""

SECRET_DURATION = b'"duration":3.395'
CLOSING = "Connection: close\r\n"


class Forms(Target):
    """Forms of requests. An input is a Content-Type, a line break and a body."""

    def prepare(self) -> None:
        fields: dict[str, bytes] = {
            "response_format": b"verbose_json",
            "language": b"en",
            "timestamp_granularities[]": b"word",
            "temperature": b"0.5",
            "keywords[]": b"Auris",
            "known_speaker_names[]": b"a",
        }
        urlencoded = b"application/x-www-form-urlencoded\nmodel=tiny&prompt=a+b%20c&url=https%3A"
        multipart = MULTIPART.encode() + b"\n"
        self.corpus = [multipart + form(b"RIFF", **fields), multipart + form(b""), urlencoded]

    def run(self, data: bytes) -> None:
        kind, _, body = data.partition(b"\n")
        chunks = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        asyncio.run(self._read(kind.decode("latin-1"), chunks))

    async def _read(self, kind: str, chunks: list[bytes]) -> None:
        left = iter(chunks)

        async def receive() -> dict[str, Any]:
            chunk = next(left, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        budget = SpoolBudget(1 << 20)
        app = SimpleNamespace(state=SimpleNamespace(server=SimpleNamespace(spool=budget)))
        headers = [(b"content-type", kind.encode("latin-1"))]
        scope = {"type": "http", "method": "POST", "headers": headers, "app": app}
        with refusable(), contextlib.suppress(ApiError):
            async with form_of(Request(scope, receive)) as fields:
                read_form(fields, TranscriptionRequest)
        assert budget.used == 0, "the budget of uploads is not given back"


class WebSocketMessages(Target):
    """Messages of a realtime session, one a line; the engine transcribes what they hold."""

    def prepare(self) -> None:
        settings = Settings(
            models=("tiny",), device="cpu", batch_size=2, state_dir=str(self.folder)
        )
        store = JobStore(self.folder)
        self._server = Server(settings, ModelRegistry.load(settings), store)
        self._server.models.start()
        self._loop = asyncio.new_event_loop()
        noise = np.random.default_rng(0).integers(-3000, 3000, 4800, np.int16).tobytes()
        append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(noise).decode()}
        commit, clear = ({"type": f"input_audio_buffer.{kind}"} for kind in ("commit", "clear"))
        plain = {"type": "session.update", "session": self._shape(newer=True)}
        manual = json.loads(json.dumps(plain))
        manual["session"]["audio"]["input"]["turn_detection"] = None
        older = {"type": "transcription_session.update", "session": self._shape(newer=False)}
        sessions = [
            [manual, append, append, commit],
            [plain, append, clear],
            [older, append, commit],
            [append, commit, plain],
        ]
        self.corpus = ["\n".join(map(json.dumps, one)).encode() for one in sessions]

    def _shape(self, newer: bool) -> dict[str, Any]:
        """The settings of a new session, as the server writes them."""
        sent: list[str] = []
        session = self._session(sent, newer)
        self._loop.run_until_complete(session.begin())
        settings: dict[str, Any] = json.loads(sent[0])["session"]
        return {name: one for name, one in settings.items() if name not in ("id", "object")}

    def _session(self, sent: list[str], newer: bool) -> RealtimeSession:
        async def send(text: str) -> None:
            sent.append(text)

        return RealtimeSession(self._server, "tiny", newer, send)

    def run(self, data: bytes) -> None:
        self._loop.run_until_complete(asyncio.wait_for(self._talk(data), LONGEST_SECONDS))

    async def _talk(self, data: bytes) -> None:
        sent: list[str] = []
        session = self._session(sent, newer=True)
        transcribing = asyncio.create_task(session.transcribe())
        for line in data[: 1 << 16].split(b"\n"):
            try:
                message: dict[str, Any] = {"text": line.decode()}
            except UnicodeDecodeError:
                message = {"bytes": line}
            await session.handle(message)
            if transcribing.done():
                transcribing.result()
        for text in sent:
            assert json.loads(text)["type"], text
        transcribing.cancel()
        await asyncio.gather(transcribing, return_exceptions=True)

    def close(self) -> None:
        self._loop.close()
        self._server.models.stop()
        self._server.store.close()


class Requests(Target):
    """Whole requests to a server with processes of its own. An input is what a client sends."""

    binary = True
    in_process = False

    def prepare(self) -> None:
        secret = self.folder / "secret.wav"
        secret.write_bytes(wav(np.full((1, SECRET_SAMPLES), 1000, np.int16)))
        self._uploads = Uploads(0, str(secret), per_container=1)
        self._maker = Maker(0)
        film = self._uploads.whole["film"]
        self._port, self._server = self._start()
        self.corpus = [self._upload(film), self._maker.one()[1]]
        self._inputs = 0
        self.run(self.corpus[0])
        self._first_bytes = self._memory()

    def _upload(self, data: bytes) -> bytes:
        return request(form(data, response_format=b"verbose_json"), headers=CLOSING)

    def generate(self, rng: random.Random) -> bytes:
        drawn = rng.random()
        if drawn < 0.5:
            return self._upload(self._uploads.one()[1])
        if drawn < 0.8:
            return self._maker.one()[1]
        return mutated(rng, [self._maker.one()[1]], binary=False)

    def _start(self) -> tuple[int, subprocess.Popen[bytes]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "auris", "serve", "--model", "tiny", "--port", str(port)]
        command += ["--state-dir", str(self.folder / "state"), "--max-audio-seconds", "120"]
        with (self.folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return port, server
            if server.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.2)

    def run(self, data: bytes) -> None:
        received = b""
        with socket.create_connection(("127.0.0.1", self._port), LONGEST_SECONDS) as connection:
            connection.settimeout(LONGEST_SECONDS)
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
                # A request that is shorter than it says ends here; the server may have closed.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(1 << 16):
                    received += more
        assert self._server.poll() is None, f"the server ended with {self._server.poll()}"
        assert not received.startswith(b"HTTP/1.1 5"), received[:300]
        assert SECRET_DURATION not in received, "another file was read"
        self._inputs += 1
        if self._inputs % LOOK_EVERY == 2:
            self._look()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self._server.pid)
        return [root, *root.children(recursive=True)]

    def _memory(self) -> int:
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
        return total

    def _look(self) -> None:
        grown = self._memory() - self._first_bytes
        assert grown < MOST_GROWTH_BYTES, f"the server grew by {grown >> 20} MiB"
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                for one in process.net_connections("inet"):
                    own = process.pid == self._server.pid and "127.0.0.1" in str(one.laddr)
                    assert own, f"a socket at {one.laddr}"

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(60)
