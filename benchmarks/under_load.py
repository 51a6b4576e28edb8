#!/usr/bin/env python
"""Measures how fast a server answers cheap requests and a short clip while other callers are heavy.

benchmarks/under_load.py                 # starts `auris serve --model tiny` by itself
benchmarks/under_load.py --seconds 60 --callers 16

Each of the heavy callers, which share a process of their own, sends one kind of input again and
again: MP3s of two hours, FLACs of 192 kHz and eight channels, MKVs with a packet for each sample,
uploads that trickle, jobs, and addresses of recordings. A server refuses addresses of this machine
and its networks. `--address` names an address that counts as public, at which the script serves
recordings slowly:

unshare -rn sh -c 'ip link set lo up; ip address add 11.0.0.1/32 dev lo
                   exec benchmarks/under_load.py --address 11.0.0.1'

The last line is a JSON object: for each cheap request and for the clip the 50th and 99th percentile
and the longest of its times in seconds, and the load of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import io
import itertools
import json
import multiprocessing
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from auris.audio.io import load

EXAMPLE = Path(__file__).parents[1] / "examples" / "kitchen_fan.flac"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
CLIP_SECONDS = 5
TIMEOUT_SECONDS = 9.5  # After which some callers hang up.
Samples = Any


def encoded(blocks: Iterator[Samples], rate: int, form: str, codec: str, layout: str) -> bytes:
    """Blocks of int16 [C, S] as a file."""
    made = io.BytesIO()
    # Without a length in its header, an MP3 can be repeated.
    options = {"write_xing": "0", "id3v2_version": "0"} if form == "mp3" else {}
    with av.open(made, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        for block in blocks:
            packed = np.ascontiguousarray(block.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, "s16", layout)
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


def speech() -> Samples:
    """Speech of 16 kHz as int16 [S]."""
    return (load(EXAMPLE).samples * 32767).astype(np.int16)


def clip() -> bytes:
    """A recording of `CLIP_SECONDS`."""
    samples = np.resize(speech(), CLIP_SECONDS * 16_000)
    return encoded(iter([samples[None]]), 16_000, "wav", "pcm_s16le", "mono")


def long_mp3(seconds: int) -> bytes:
    """A minute of speech, repeated: frames of MP3 can follow each other in any order."""
    minute = np.resize(speech(), 60 * 16_000)[None]
    return encoded(iter([minute]), 16_000, "mp3", "libmp3lame", "mono") * (seconds // 60)


def wide_flac(seconds: int) -> bytes:
    """Noise at the highest rate and with as many channels as a server takes."""
    random = np.random.default_rng(0)
    block = random.integers(-64, 64, (8, 192_000), np.int16)
    return encoded(itertools.repeat(block, seconds), 192_000, "flac", "flac", "7.1")


def ebml(name: int, content: bytes) -> bytes:
    """An element of a Matroska file."""
    length = (1 << 56 | len(content)).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + length + content


def ebml_number(name: int, value: int) -> bytes:
    """An element that is a number."""
    return ebml(name, value.to_bytes(4, "big"))


def tiny_packets(seconds: int) -> bytes:
    """A Matroska file of 48 kHz with one sample in each packet, which takes long to decode."""
    rate = 48_000
    header = ebml(0x1A45DFA3, ebml(0x4282, b"matroska"))
    info = ebml_number(0x2AD7B1, 1_000_000) + ebml(0x4489, struct.pack(">d", 1000.0 * seconds))
    form = ebml(0xB5, struct.pack(">d", rate)) + ebml_number(0x9F, 1) + ebml_number(0x6264, 8)
    track = ebml_number(0xD7, 1) + ebml_number(0x73C5, 1) + ebml_number(0x83, 2)
    track += ebml(0x86, b"A_PCM/INT/LIT") + ebml(0xE1, form)
    # A block in its shortest form: name, length, track, time within the cluster, flags, sample.
    blocks = b"".join(
        b"\xa3\x85\x81" + struct.pack(">hBB", number * 1000 // rate, 0x80, 128 + number % 5)
        for number in range(rate)
    )
    clusters = [
        ebml(0x1F43B675, ebml_number(0xE7, 1000 * second) + blocks) for second in range(seconds)
    ]
    content = ebml(0x1549A966, info) + ebml(0x1654AE6B, ebml(0xAE, track)) + b"".join(clusters)
    return header + ebml(0x18538067, content)


class Times:
    """Times of answers by kind of request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)

    def measure(self, name: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request, and record how long it took."""
        began = time.perf_counter()
        answer = send()
        seconds = time.perf_counter() - began
        with self._lock:
            self.seconds[name].append(seconds)
            self.statuses[name][answer.status_code] += 1
        return answer

    def summary(self, name: str) -> dict[str, Any]:
        """Percentiles of one kind."""
        seconds = sorted(self.seconds[name])
        ranks = {"p50": len(seconds) // 2, "p99": len(seconds) * 99 // 100}
        shown = {key: round(seconds[index], 3) for key, index in ranks.items()} if seconds else {}
        longest = round(max(seconds, default=0.0), 3)
        return {
            "count": len(seconds),
            **shown,
            "max": longest,
            "statuses": dict(self.statuses[name]),
        }


def post(client: httpx.Client, path: str, data: bytes, **fields: str) -> httpx.Response:
    """Send a recording."""
    return client.post(path, files={"file": ("a", data)}, data={"model": "tiny", **fields})


def trickle(url: str) -> None:
    """Send an upload a little at a time, as slowly as is allowed."""
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
        while True:
            connection.sendall(bytes(500))
            time.sleep(0.1)


def request(path: str, data: bytes | None, **fields: str) -> bytes:
    """The bytes of a request, made once, so that sending it again costs the client little."""
    made = httpx.Request(
        "POST",
        f"http://localhost{path}",
        files=None if data is None else {"file": ("a", data)},
        data={"model": "tiny", **fields},
        headers={"Connection": "close"},
    )
    head = f"POST {path} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in made.headers.items())
    return head.encode() + b"\r\n" + made.read()


def send(url: str, sent: bytes, timeout: float | None = None) -> bytes:
    """The beginning of the answer, unless it takes longer than `timeout` in seconds."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout) as connection:
        with contextlib.suppress(ConnectionError):  # It may have been answered before its end.
            connection.sendall(sent)
        answer = connection.recv(4096)
        while connection.recv(1 << 16):
            pass
        return answer


class SlowRecordings(http.server.BaseHTTPRequestHandler):
    """Sends endless headers for `/headers`, and an endless recording for other paths."""

    def do_GET(self) -> None:
        """Answer a little at a time, until the client disconnects."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            if self.path != "/headers":
                self.wfile.write(b"Content-Type: audio/wav\r\nContent-Length: 100000000\r\n\r\n")
            for number in itertools.count():
                self.wfile.write(b"X-%d: 0\r\n" % number)
                time.sleep(0.2)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


def slow_urls(address: str) -> list[str]:
    """Serve slow recordings at an address of this machine; returns their addresses."""
    served = http.server.ThreadingHTTPServer((address, 0), SlowRecordings)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    return [f"http://{address}:{served.server_port}/{name}" for name in ("headers", "a.wav")]


def heavy_callers(url: str, arguments: argparse.Namespace) -> None:
    """A thread for each of the heavy callers; to be run in a process that is killed at the end."""
    made = {
        "MP3": long_mp3(arguments.mp3_seconds),
        "FLAC": wide_flac(arguments.flac_seconds),
        "MKV": tiny_packets(arguments.mkv_seconds),
    }
    print({name: f"{len(data) / 1e6:.0f} MB" for name, data in made.items()}, file=sys.stderr)
    mp3, flac, mkv = made.values()
    uploads = [
        request(TRANSCRIPTIONS, mp3),
        request(TRANSCRIPTIONS, flac),
        request(TRANSCRIPTIONS, mp3, stream="true"),
        request(TRANSCRIPTIONS, flac, response_format="diarized_json"),
        request("/v1/jobs", mp3),
        request(TRANSCRIPTIONS, mp3, response_format="srt"),
    ]
    urls = slow_urls(arguments.address) if arguments.address else [f"{url}/openapi.json"]
    uploads += [request(TRANSCRIPTIONS, None, url=slow) for slow in urls]

    def upload(sent: bytes, timeout: float | None = None) -> None:
        while True:
            with contextlib.suppress(OSError):
                refused = re.search(rb"(?i)retry-after: (\d+)", send(url, sent, timeout))
                time.sleep(min(int(refused.group(1)), 5) if refused else 0.2)

    def trickling() -> None:
        while True:
            trickle(url)

    packets = request(TRANSCRIPTIONS, mkv)
    kinds: list[Callable[[], None]] = [
        partial(upload, packets),
        partial(upload, packets, TIMEOUT_SECONDS),
        *(partial(upload, sent) for sent in uploads),
        trickling,
    ]
    for number in range(arguments.callers):
        threading.Thread(target=kinds[number % len(kinds)]).start()


def measured(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times of answers while the heavy callers run."""
    times, short = Times(), clip()
    context = multiprocessing.get_context("spawn")
    heavy = context.Process(target=heavy_callers, args=(url, arguments))
    with httpx.Client(base_url=url, timeout=600) as client:
        post(client, TRANSCRIPTIONS, short).raise_for_status()
        job = post(client, "/v1/jobs", short).json()["id"]
        heavy.start()
        time.sleep(arguments.settle)
        until = time.monotonic() + arguments.seconds

        def clips() -> None:
            with httpx.Client(base_url=url, timeout=600) as own:
                while time.monotonic() < until:
                    times.measure("clip", lambda: post(own, TRANSCRIPTIONS, short))

        sending = threading.Thread(target=clips)
        sending.start()
        cheap = ("/health", "/v1/models", "/metrics", f"/v1/jobs/{job}")
        while time.monotonic() < until:
            for path in cheap:
                times.measure(path, lambda path=path: client.get(path))  # type: ignore[misc]
            time.sleep(0.05)
        sending.join()
        heavy.kill()
        shown = client.get("/metrics").text
    in_flight = re.search(r"^auris_audio_seconds_in_flight (\S+)$", shown, re.MULTILINE)
    assert in_flight is not None
    posted = re.findall(
        r'^auris_requests_total{method="POST",.*status="(\d+)"} (\S+)$', shown, re.M
    )
    names = {path: path for path in cheap[:3]} | {cheap[3]: "job status", "clip": "clip of 5 s"}
    return {
        "callers": arguments.callers,
        "seconds": arguments.seconds,
        **{label: times.summary(name) for name, label in names.items()},
        "statuses_of_all_uploads": {status: int(float(count)) for status, count in sorted(posted)},
        "audio_seconds_in_flight": float(in_flight.group(1)),
        "processors": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


@contextlib.contextmanager
def server(arguments: argparse.Namespace) -> Iterator[str]:
    """A server of its own."""
    command = [sys.executable, "-m", "auris", "serve", "--model", "tiny", "--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as log:
        state = ["--port", "0", "--state-dir", str(Path(folder) / "state"), "--allow-urls"]
        process = subprocess.Popen([*command, *state, "--stop-seconds", "1"], stderr=log)
        try:
            while not (match := re.search(r"running on (\S+)", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.1)
            yield match.group(1)
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running server; by default one is started")
    parser.add_argument("--address", help="address of this machine that a server takes as public")
    parser.add_argument("--callers", type=int, default=16, help="number of heavy callers")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before the measurement")
    parser.add_argument("--mp3-seconds", type=int, default=7200, help="length of the MP3s")
    parser.add_argument("--flac-seconds", type=int, default=60, help="length of the FLACs")
    parser.add_argument("--mkv-seconds", type=int, default=27, help="length of the MKVs")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = arguments.url or stack.enter_context(server(arguments))
        print(json.dumps(measured(url, arguments)))


if __name__ == "__main__":
    main()
