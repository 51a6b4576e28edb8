#!/usr/bin/env python
"""Measures a running `auris serve`. The last line of every measurement is JSON.

auris serve --max-audio-seconds 600 &
benchmarks/server.py load --clips DIR --pid N    # speed, and texts of other callers
benchmarks/server.py memory --clips DIR --pid N  # growth over many requests
benchmarks/server.py malformed --pid N           # wrong requests and recordings
benchmarks/server.py realtime --clips DIR        # delays of live text, 16 streams
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

BOUNDARY = "auris-measures-this"


@dataclass(frozen=True)
class Answer:
    """A response: 0 is the status of a connection that ended without one."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A persistent connection; cheap, since the client shares the machine with the server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send bytes and read one response."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            await writer.drain()
        except ConnectionError:
            pass  # The server may have answered before it closed the connection.
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return Answer(0, {}, b"")
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def upload(data: bytes, model: str, key: str | None) -> bytes:
    """A request for a transcript, as bytes."""
    lines = [
        f"--{BOUNDARY}",
        'Content-Disposition: form-data; name="model"',
        "",
        model,
        f"--{BOUNDARY}",
        'Content-Disposition: form-data; name="file"; filename="a.wav"',
        "",
        "",
    ]
    body = "\r\n".join(lines).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    return head.encode() + b"\r\n" + body


def resident_mb(pid: int) -> float:
    """Memory of a process and of those that it started."""
    return float(sum(process.memory_info().rss for process in _processes(pid))) / 1e6


def _processes(pid: int) -> list[Any]:
    import psutil

    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def processor_seconds(pid: int | None) -> float:
    """Processor time of a process and those that it started; 0 where none is named."""
    if pid is None:
        return 0.0
    times = [process.cpu_times() for process in _processes(pid)]
    return float(sum(time.user + time.system for time in times))


@dataclass
class Tally:
    """The answers, and the seconds of processors that they took."""

    statuses: Counter[int] = field(default_factory=Counter)
    swapped: int = 0
    audio_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    of_clients: float = 0.0
    of_server: float = 0.0


async def _caller(
    arguments: argparse.Namespace,
    clips: Sequence[tuple[bytes, float, str]],
    first: int,
    until: float,
    tally: Tally,
) -> None:
    connection = Connection(arguments.url)
    number = first
    while time.monotonic() < until:
        data, seconds, text = clips[number % len(clips)]
        began = time.monotonic()
        answer = await connection.send(data)
        tally.statuses[answer.status] += 1
        if answer.status == 429:
            await asyncio.sleep(float(answer.headers["retry-after"]))
            continue
        number += 1
        if answer.status == 200:
            tally.swapped += json.loads(answer.body)["text"] != text
            tally.audio_seconds += seconds
            tally.waits.append(time.monotonic() - began)
    connection.close()


def _clips(arguments: argparse.Namespace) -> list[tuple[Path, bytes]]:
    paths = sorted(Path(arguments.clips).iterdir())
    return [(path, upload(path.read_bytes(), arguments.model, arguments.key)) for path in paths]


def _batch_speed(pipeline: Any, paths: list[str], arguments: argparse.Namespace) -> float:
    """Seconds of audio that a pipeline transcribes in a second, in batches."""
    began, audio = time.perf_counter(), 0.0
    repeated = paths * arguments.batch_rounds
    for _, result in pipeline.results(repeated, batch_size=arguments.batch_size):
        audio += result.seconds
    return audio / (time.perf_counter() - began)


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    """Many callers at once, compared with the speed of the same recordings in a batch."""
    from auris import AsrPipeline

    uploads = _clips(arguments)
    paths = [str(path) for path, _ in uploads]
    pipeline = AsrPipeline.from_pretrained(arguments.model)
    offline = pipeline.transcribe(list(paths))
    clips = [(data, one.seconds, one.text) for (_, data), one in zip(uploads, offline, strict=True)]
    speeds = [_batch_speed(pipeline, paths, arguments)]
    rounds = []
    for _ in range(arguments.rounds):
        tally = Tally(of_clients=-time.process_time(), of_server=-processor_seconds(arguments.pid))
        began = time.monotonic()
        until = began + arguments.seconds / arguments.rounds

        async def call(tally: Tally = tally, until: float = until) -> None:
            await asyncio.gather(
                *(
                    _caller(arguments, clips, number, until, tally)
                    for number in range(arguments.clients)
                )
            )

        asyncio.run(call())
        rounds.append((tally, tally.audio_seconds / (time.monotonic() - began)))
        tally.of_clients += time.process_time()
        tally.of_server += processor_seconds(arguments.pid)
        speeds.append(_batch_speed(pipeline, paths, arguments))
    waits = sorted(wait for tally, _ in rounds for wait in tally.waits)
    statuses = sum((tally.statuses for tally, _ in rounds), Counter[int]())
    served, batch = statistics.median(s for _, s in rounds), statistics.median(speeds)
    return {
        "clients": arguments.clients,
        "clips": len(clips),
        "distinct_texts": len({text for _, _, text in clips}),
        "statuses": dict(statuses),
        "swapped": sum(tally.swapped for tally, _ in rounds),
        "audio_per_second": round(served, 1),
        "batch_audio_per_second": round(batch, 1),
        "of_batch": round(served / batch, 3),
        "client_cpu_seconds": round(sum(tally.of_clients for tally, _ in rounds), 2),
        "server_cpu_seconds": round(sum(tally.of_server for tally, _ in rounds), 2),
        "wait_p50": round(waits[len(waits) // 2], 3),
        "wait_p95": round(waits[len(waits) * 19 // 20], 3),
    }


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Memory of the server over many requests, some of them by callers that disconnect."""
    clips = [data for _, data in _clips(arguments)]
    sizes: list[float] = []

    async def disconnect(data: bytes) -> None:
        connection = Connection(arguments.url)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(connection.send(data), 0.05)
        connection.close()

    async def call() -> None:
        connections = [Connection(arguments.url) for _ in range(arguments.clients)]
        sent = 0
        while sent < arguments.requests:
            group = [clips[(sent + n) % len(clips)] for n in range(len(connections))]
            stays = zip(connections[:-1], group[:-1], strict=True)
            await asyncio.gather(*(c.send(data) for c, data in stays), disconnect(group[-1]))
            sent += len(group)
            sizes.append(resident_mb(arguments.pid))
        for connection in connections:
            connection.close()

    asyncio.run(call())
    quarter = len(sizes) // 4
    return {
        "requests": arguments.requests,
        "mb_after_first_quarter": round(sizes[quarter], 1),
        "mb_at_the_end": round(sizes[-1], 1),
        "mb_most": round(max(sizes), 1),
    }


def malformed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Wrong requests of every kind: each has to be answered with a 4xx status."""
    from tests.server.malformed import requests

    statuses: Counter[str] = Counter()
    wrong: list[str] = []
    before = 0.0

    async def send(made: Iterator[tuple[str, bytes]]) -> None:
        for kind, request in made:
            connection = Connection(arguments.url)
            answer = await connection.send(request)
            connection.close()
            statuses[f"{kind} {answer.status}"] += 1
            if not 400 <= answer.status < 500:
                wrong.append(f"{kind}: {answer.status} {answer.body[:200]!r}")

    async def call() -> None:
        nonlocal before
        made = requests(arguments.seed, arguments.requests, arguments.key)
        await send(itertools.islice(made, 200))
        before = resident_mb(arguments.pid)
        await asyncio.gather(*(send(made) for _ in range(arguments.clients)))

    asyncio.run(call())
    return {
        "requests": sum(statuses.values()),
        "not_4xx": len(wrong),
        "examples": wrong[:5],
        "statuses": dict(sorted(statuses.items())),
        "mb_after_200": round(before, 1),
        "mb_at_the_end": round(resident_mb(arguments.pid), 1),
    }


def realtime(arguments: argparse.Namespace) -> dict[str, Any]:
    """Live streams at once, see `realtime.py`."""
    from realtime import measured

    return measured(arguments)


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=["load", "memory", "malformed", "realtime"], help="measurement"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server")
    parser.add_argument("--key", help="a key of the server")
    parser.add_argument("--model", default="tiny", help="served model")
    parser.add_argument("--clips", help="folder of recordings")
    parser.add_argument("--clients", type=int, default=64, help="callers at once")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the run")
    parser.add_argument("--rounds", type=int, default=4, help="parts of the run")
    parser.add_argument("--batch-size", type=int, default=16, help="of the pipeline")
    parser.add_argument(
        "--batch-rounds",
        type=int,
        default=4,
        help="rounds of all clips through the pipeline, in each part",
    )
    parser.add_argument("--requests", type=int, default=2000, help="number of requests")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--pid", type=int, help="process id of the server")
    parser.add_argument("--streams", type=int, default=16, help="realtime streams")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between recordings")
    parser.add_argument("--vad", action="store_true", help="let the server detect turns")
    parser.add_argument("--stable-only", action="store_true", help="do not ask for partial text")
    parser.add_argument("--aligner", help="model that finds the ends of words; --model by default")
    arguments = parser.parse_args()
    measures = {"load": load, "memory": memory, "malformed": malformed, "realtime": realtime}
    measure = measures[arguments.what]
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
