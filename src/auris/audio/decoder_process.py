"""The main function of a process that decodes recordings for another process, its owner.

The process has one connection to its owner and nothing else: once it is set up it can open no file
and no socket, and requests the bytes of the recording from its owner. Messages are a letter and
raw bytes, so the owner never unpickles what comes from a process that decodes hostile files.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from auris.audio.formats import wav_head
from auris.audio.io import look, stream
from auris.errors import AurisError
from auris.types import SAMPLE_RATE

STARTED, READ, SAMPLES, HEADER, DONE = b"I", b"R", b"S", b"H", b"D"
ERROR, LATE, LOG = b"E", b"T", b"L"
"""Kinds of messages of this process: it is ready; give bytes; take samples; take a header; the
recording ended; the recording failed; its turn is over; a line for the log."""

LAST_MESSAGES = (HEADER, DONE, ERROR, LATE)
"""The last message of a task is one of them."""

STOP = b""
"""Message to this process: give up the task."""

LOOK = "look"
"""Key of a task; true if only the header is requested."""

TURN_SECONDS = "turn_seconds"
"""Key of a task; the computing time after which it is given up with `LATE`."""

MOST_MESSAGE_BYTES = 1 << 23
"""Longest message of this process."""

MOST_SAMPLES = (MOST_MESSAGE_BYTES >> 2) - 16
"""Maximum number of samples of a message, of all channels together."""

WINDOW_BYTES = 1 << 18
"""Bytes that are requested at once."""


class _OwnersLog(logging.Handler):
    """Sends warnings to the owner, who writes the log."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._connection.send_bytes(LOG + record.getMessage()[:2000].encode())


class _OwnersFile(io.RawIOBase):
    """A file whose bytes the owner reads, until the turn is over."""

    def __init__(self, connection: Connection, size: int, turn_seconds: float) -> None:
        self._connection = connection
        self._size = size
        self._turn_end = time.process_time() + turn_seconds
        self.late = False
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("an offset before the beginning")
        self._offset = base + offset
        return self._offset

    def turn_over(self) -> bool:
        """Whether the computing time of the task is used up, or the owner gives it up."""
        if not self.late and _has_message(self._connection):
            self._connection.recv_bytes()  # Nothing but STOP comes without a request.
            self.late = True
        self.late = self.late or time.process_time() > self._turn_end
        return self.late

    def readinto(self, buffer: Any) -> int:
        if self.turn_over():
            raise TimeoutError("the turn is over")
        size = min(len(buffer), self._size - self._offset, WINDOW_BYTES)
        if size <= 0:
            return 0
        self._connection.send_bytes(READ + struct.pack("<qI", self._offset, size))
        data = self._connection.recv_bytes()
        if data == STOP:
            self.late = True
            raise TimeoutError("the turn is over")
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


def _has_message(connection: Connection) -> bool:
    if sys.platform == "win32":
        return connection.poll()
    # `poll` of the system refuses to work where no file may be opened; `select` does not.
    return bool(select.select([connection], [], [], 0)[0])


def serve(connection: Connection, memory_bytes: int, niceness: int) -> None:
    """Decode what the owner requests until it closes the connection.

    Args:
        connection: to the owner.
        memory_bytes: maximum memory for recordings, in addition to that of the idle process.
        niceness: the lowest priority at which this process runs.
    """
    # Ctrl-C is for the owner, which ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load_everything()
    _lower_priority(niceness)
    limit_memory(memory_bytes)
    # From now on this process can open no file and no socket, and write to no file.
    _limit("RLIMIT_NOFILE", 0)
    _limit("RLIMIT_FSIZE", 0)
    logging.getLogger().handlers = [_OwnersLog(connection)]
    try:
        connection.send_bytes(STARTED)
        while True:
            message = connection.recv_bytes()
            if message == STOP:  # It came too late.
                continue
            task = json.loads(message)
            until = math.ceil(time.process_time() + task["cpu_seconds"])
            _limit("RLIMIT_CPU", until, for_good=False)
            connection.send_bytes(_answer(connection, task))
    except (EOFError, OSError):
        return


def _answer(connection: Connection, task: dict[str, Any]) -> bytes:
    """Do a task; returns its last message."""
    file = _OwnersFile(connection, task["size"], task[TURN_SECONDS])
    message = _result(connection, task, file)
    return LATE if file.late else message


def _result(connection: Connection, task: dict[str, Any], raw: _OwnersFile) -> bytes:
    file = io.BufferedReader(raw, WINDOW_BYTES)
    try:
        if task[LOOK]:
            return HEADER + json.dumps(look(file)).encode()
        for block in stream(file, channels=task["channels"], urls=None):
            for part in _parts(block):
                head = SAMPLES + struct.pack("<I", len(part))
                connection.send_bytes(head + part.tobytes())
            if raw.turn_over():
                break
        return DONE
    except AurisError as error:
        return _failed(type(error).__name__, error)
    except MemoryError:
        refusal = AurisError(
            "Decoding the recording takes more memory than is allowed",
            "",
            "convert it to a plain format such as FLAC",
        )
        return _failed("UnreadableAudio", refusal)


def _failed(kind: str, error: AurisError) -> bytes:
    texts = [text[:2000] for text in (error.rule, error.actual, error.remedy, error.by_span)]
    return ERROR + json.dumps([kind, *texts]).encode()


def _parts(block: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    length = MOST_SAMPLES // len(block)
    for begin in range(0, block.shape[1], length):
        yield block[:, begin : begin + length]


def _load_everything() -> None:
    """Decode a short recording of another rate, which loads every module that decoding needs."""
    sound = wav_head(1, SAMPLE_RATE // 2) + bytes(SAMPLE_RATE)
    for _ in stream(io.BytesIO(sound)):
        pass
    try:
        look(io.BytesIO(b"no recording"))
    except AurisError as error:
        json.dumps(str(error))


def _lower_priority(niceness: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    except (AttributeError, OSError):
        return  # Not every system has it, or allows it.


def limit_memory(more_bytes: int) -> None:
    """Let this process take only so much memory more than it has, where the system can do that."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return
    (data,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmData"))
    _limit("RLIMIT_DATA", int(data) * 1024 + more_bytes)
    _limit("RLIMIT_CORE", 0)


def _limit(name: str, most: int, for_good: bool = True) -> None:
    """Set a limit of this process, where the system has limits."""
    try:
        import resource
    except ImportError:
        return
    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most if for_good else hard))
