#!/usr/bin/env python
"""Sends generated and mutated uploads and messages to a server and to isolated decoders.

scripts/fuzz_uploads.py --decoder 90000 --server 9000 --messages 1000 --seed 1

The server is started by this script, on a free port of this machine. What is watched: whether it
ends, what it answers, which sockets its processes hold, whether a file that no upload holds is read
(its name is in scripts and playlists), and the memory of all its processes. The last line is JSON;
the exit code is 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

LOOK_SECONDS = 1.0
"""How often memory and sockets are looked at."""

LONGEST_SECONDS = 600.0
"""Longest time that one upload may take."""


class Decoders:
    """Uploads decoded as the server does it, without the server."""

    def __init__(self, folder: Path | None) -> None:
        from auris.audio.isolation import DecodeLimits, DecoderPool

        self.pool = DecoderPool(DecodeLimits(wall_seconds=LONGEST_SECONDS, cpu_seconds=30.0))
        self.outcomes: Counter[str] = Counter()
        self.secrets_read = 0
        self.crashes: Counter[str] = Counter()
        self._folder = folder
        self._change = threading.Lock()

    def _keep(self, kind: str, data: bytes, error: Exception) -> None:
        """Save an upload that crashed a decoder, if a folder for them is given."""
        with self._change:
            self.crashes[f"{kind}: {str(error).partition('exit code ')[2].partition(')')[0]}"] += 1
        if self._folder is not None:
            name = hashlib.sha256(data).hexdigest()[:16]
            (self._folder / name).write_bytes(data)

    def decode(self, kind: str, data: bytes) -> None:
        """Decode one upload and count what came of it."""
        from auris.errors import AurisError

        samples = 0
        try:
            for block in self.pool.stream(io.BytesIO(data), "mix", threading.Event()):
                samples += block.shape[1]
            outcome = "decoded"
        except AurisError as error:
            outcome = type(error).__name__
            if outcome == "DecoderCrashed":
                self._keep(kind, data, error)
        with self._change:
            self.outcomes[outcome] += 1
            if "foreign" in kind and samples == SECRET_SAMPLES:
                self.secrets_read += 1


SECRET_SAMPLES = 54_320
SECRET_DURATION = b'"duration":3.395'
CLOSING = "Connection: close\r\n"


def secret_file(folder: Path) -> Path:
    """A recording that nobody uploads, which is recognized by its length."""
    import numpy as np
    from tests.audio.media import wav

    path = folder / "secret.wav"
    path.write_bytes(wav(np.full((1, SECRET_SAMPLES), 1000, np.int16)))
    return path


def spread(count: int, threads: int, work: Callable[[random.Random], None], seed: int) -> None:
    """Do work so many times in so many threads."""
    left = iter(range(count))
    change = threading.Lock()

    def run(rng: random.Random) -> None:
        while True:
            with change:
                if next(left, None) is None:
                    return
            work(rng)

    running = [
        threading.Thread(target=run, args=(random.Random(seed + n),)) for n in range(threads)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


class Watch(threading.Thread):
    """Looks at the processes of a tree: their memory, and the sockets that they hold."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(root)
        self._over = threading.Event()
        self.first_bytes = 0
        self.most_bytes = 0
        self.most_of_a_decoder = 0
        self.foreign_sockets: set[str] = set()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with contextlib.suppress(psutil.Error):
                self.look()

    def look(self) -> None:
        """Look once."""
        total = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                private = process.memory_full_info().uss
                total += private
                if process.pid != self._root.pid:
                    self.most_of_a_decoder = max(self.most_of_a_decoder, private)
                self._look_at_sockets(process)
        self.first_bytes = self.first_bytes or total
        self.most_bytes = max(self.most_bytes, total)

    def _look_at_sockets(self, process: psutil.Process) -> None:
        for one in process.net_connections("inet"):
            ours = one.laddr and one.laddr.ip == "127.0.0.1" and one.type == socket.SOCK_STREAM
            if not ours or process.pid != self._root.pid:
                self.foreign_sockets.add(f"{one.type.name} {one.laddr}")

    def end(self) -> None:
        self._over.set()
        self.join()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A running server and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "auris", "serve", "--model", "tiny", "--port", str(port)]
    command += ["--state-dir", str(folder / "state"), "--max-audio-seconds", "120"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.2)
        yield server, port
    finally:
        server.terminate()
        server.wait(60)


def answer(port: int, sent: bytes, end: bytes | None = None) -> tuple[int, bytes]:
    """The status of the answer to a request, 0 where there is none, and the answer up to `end`."""
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), LONGEST_SECONDS) as connection:
            connection.settimeout(LONGEST_SECONDS)
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            received = b""
            with contextlib.suppress(OSError):
                while (end is None or end not in received) and (more := connection.recv(1 << 16)):
                    received += more
        if received.startswith(b"HTTP/1.1 "):
            return int(received.split()[1]), received
    return 0, b""


def fuzz_server(options: argparse.Namespace, folder: Path, uploads: Any) -> dict[str, Any]:
    """Send uploads and wrong messages to a running server."""
    from tests.server.malformed import Maker, form, request

    statuses: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    change = threading.Lock()
    messages = Maker(options.seed)

    def count(kind: str, answered: tuple[int, bytes]) -> None:
        status, content = answered
        with change:
            statuses[str(status)] += 1
            if status == 0 or status >= 500 or SECRET_DURATION in content:
                faults[f"{kind}: {status}"] += 1

    with served(folder) as (server, port):
        intact = uploads.whole["film"]
        answer(port, request(form(intact), headers=CLOSING))
        watch = Watch(server.pid)
        watch.look()
        watch.start()

        def upload(rng: random.Random) -> None:
            with change:
                kind, data = uploads.one()
            sent = request(form(data, response_format=b"verbose_json"), headers=CLOSING)
            count(kind, answer(port, sent))

        def message(rng: random.Random) -> None:
            with change:
                kind, data = messages.one()
            count(f"message, {kind}", answer(port, data, b"\r\n\r\n"))

        spread(options.server, options.threads, upload, options.seed)
        spread(options.messages, options.threads, message, options.seed)
        alive = server.poll() is None
        last, _ = answer(port, request(form(intact), headers=CLOSING))
        watch.end()
    return {
        "uploads": options.server,
        "messages": options.messages,
        "statuses": dict(sorted(statuses.items())),
        "faults": dict(faults),
        "alive": alive and last == 200,
        "memory_above_start_mb": round((watch.most_bytes - watch.first_bytes) / 1e6),
        "memory_mb": round(watch.most_bytes / 1e6),
        "most_of_a_decoder_mb": round(watch.most_of_a_decoder / 1e6),
        "sockets_of_others": sorted(watch.foreign_sockets),
    }


def fuzz_decoders(options: argparse.Namespace, uploads: Any) -> dict[str, Any]:
    """Decode uploads in isolated processes."""
    decoders = Decoders(options.keep)
    change = threading.Lock()
    slowest = 0.0

    def work(rng: random.Random) -> None:
        nonlocal slowest
        with change:
            kind, data = uploads.one()
        began = time.monotonic()
        decoders.decode(kind, data)
        slowest = max(slowest, time.monotonic() - began)

    watch = Watch(os.getpid())
    watch.start()
    spread(options.decoder, options.threads, work, options.seed)
    watch.end()
    decoders.pool.close()
    return {
        "uploads": options.decoder,
        "outcomes": dict(sorted(decoders.outcomes.items())),
        "contained_crashes": dict(decoders.crashes),
        "secrets_read": decoders.secrets_read,
        "slowest_seconds": round(slowest, 1),
        "most_of_a_decoder_mb": round(watch.most_of_a_decoder / 1e6),
        "sockets": sorted(watch.foreign_sockets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoder", type=int, default=900, help="uploads for isolated decoders")
    parser.add_argument("--server", type=int, default=90, help="uploads for a server")
    parser.add_argument("--messages", type=int, default=10, help="wrong requests for a server")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for uploads that crash a decoder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from tests.audio.fuzzing import Uploads

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uploads = Uploads(options.seed, str(secret_file(folder)))
        summary: dict[str, Any] = {"seed": options.seed, "containers": len(uploads.whole)}
        if options.decoder:
            summary["decoder"] = fuzz_decoders(options, uploads)
        if options.server or options.messages:
            summary["server"] = fuzz_server(options, folder, uploads)
    summary["seconds"] = round(time.monotonic() - began)
    print(json.dumps(summary))
    server, decoder = summary.get("server", {}), summary.get("decoder", {})
    wrong = (
        server.get("faults")
        or server.get("sockets_of_others")
        or not server.get("alive", True)
        or server.get("memory_above_start_mb", 0) > 1000
        or decoder.get("secrets_read")
        or decoder.get("sockets")
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
