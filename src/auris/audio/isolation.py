"""Recordings decoded in processes of their own, so that nothing in a file can harm the program.

A process that crashes, takes too much memory or works too long takes only its recording along.
Processes are used again, since starting one takes half a second.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import struct
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from auris import errors
from auris.audio.decode import Header
from auris.audio.decoder_process import (
    ERROR,
    LAST_MESSAGES,
    LATE,
    LOG,
    LOOK,
    MOST_MESSAGE_BYTES,
    READ,
    SAMPLES,
    STARTED,
    STOP,
    TURN_SECONDS,
    serve,
)
from auris.audio.io import Channels
from auris.audio.remote import Cancelled
from auris.errors import AurisError, DecoderCrashed, UnreadableAudio
from auris.types import Samples

LOOK_SECONDS = 0.1
"""How often a cancellation is looked for while a process decodes."""

START_SECONDS = 120.0
"""Longest time that a process takes to start."""

MOST_TASKS = 1000
"""Recordings after which a process is replaced, should a codec leak."""

CPU_SIGNAL = 24
"""The signal SIGXCPU, which ends a process that computed for too long."""

LATE_SECONDS = 0.5
"""Computing time after which a process is killed that has not ended its turn by itself. It looks
at the time, and for `STOP`, between two blocks."""

STOP_SECONDS = 2.0
"""Longest time for ending a task that is cancelled; then the process is killed."""

REPORTED_ERRORS = {
    kind.__name__: kind
    for kind in (errors.UnreadableAudio, errors.EmptyAudio, errors.InvalidSamples)
}
"""Errors that a process may report."""


_LOG = logging.getLogger(__name__)


class DecodingStopped(Exception):
    """Decoding was cancelled, so there is no result."""


class TurnOver(Exception):
    """Decoding took more computing time than its caller allows, so there is no result."""


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding one recording may cost.

    Attributes:
        memory_bytes: maximum memory of a process, in addition to that of an idle one.
        cpu_seconds: longest computing time.
        wall_seconds: longest time by the clock.
    """

    memory_bytes: int = 512 << 20
    cpu_seconds: float = 600.0
    wall_seconds: float = 1800.0


class _DecoderProcess:
    """A process that decodes one recording after the other."""

    def __init__(self, limits: DecodeLimits, niceness: int) -> None:
        self.niceness = niceness
        self._limits = limits
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, limits.memory_bytes, niceness), daemon=True
        )
        self._process.start()
        theirs.close()
        self._exit_code: int | None = None
        self._started = False
        self._tasks = 0
        self._between = True

    @property
    def usable(self) -> bool:
        """Whether it can do another task: it finished its last one."""
        between = self._between and not self._connection.closed
        return between and self._tasks < MOST_TASKS

    def messages(
        self, file: IO[bytes], task: dict[str, Any], cancelled: Cancelled
    ) -> Generator[bytes, None, None]:
        """Do a task; yields samples and then the last message of the task.

        Raises:
            DecoderCrashed: the process ended.
            UnreadableAudio: the recording cannot be read, or it took too long.
            DecodingStopped: it was cancelled.
            TurnOver: it took more computing time than the task allows.
        """
        began = time.monotonic()
        self._tasks += 1
        try:
            while not self._started:
                self._started = self._next(cancelled, began + START_SECONDS) == STARTED
            self._between = False
            self._connection.send_bytes(json.dumps(task).encode())
            until = time.monotonic() + self._limits.wall_seconds
            turn_end = self._computing_seconds() + task[TURN_SECONDS] + LATE_SECONDS
            while True:
                message = self._next(cancelled, until, turn_end)
                kind, content = message[:1], message[1:]
                if kind == READ:
                    self._connection.send_bytes(_bytes_at(file, *struct.unpack("<qI", content)))
                    continue
                if kind == LOG:
                    _LOG.warning("%s", content.decode(errors="replace"))
                    continue
                self._between = kind != SAMPLES
                if kind == LATE:
                    raise TurnOver
                if kind == ERROR:
                    raise _reported_error(content)
                yield message
                if self._between:
                    return
        except (EOFError, OSError, ValueError, KeyError, struct.error):
            self.kill()
            raise self._crash(time.monotonic() - began) from None

    def _next(self, cancelled: Cancelled, until: float, turn_end: float = float("inf")) -> bytes:
        while True:
            if cancelled.is_set():
                raise DecodingStopped
            if time.monotonic() > until:
                self.kill()
                raise _too_slow(self._limits.wall_seconds)
            if self._computing_seconds() > turn_end:
                self.kill()
                raise TurnOver
            # The file of a task that is cancelled may be closed already.
            if self._connection.poll(LOOK_SECONDS) and not cancelled.is_set():
                return self._connection.recv_bytes(MOST_MESSAGE_BYTES)

    def _computing_seconds(self) -> float:
        """Computing time; elsewhere than on Linux a tenth of the time by the clock."""
        if sys.platform != "linux":
            return time.monotonic() / 10
        # The clock of a process, as of `clock_getcpuclockid`, which Python does not have.
        return time.clock_gettime((~(self._process.pid or 0) << 3) | 2)

    def _crash(self, seconds: float) -> AurisError:
        code = self._exit_code
        if code == -CPU_SIGNAL:
            return _too_slow(self._limits.cpu_seconds)
        return DecoderCrashed(
            f"The process that decoded the recording crashed after {seconds:.1f} s"
            f" (exit code {code})",
            "",
            "check the file, or convert it to a plain format such as FLAC",
        )

    def stop(self) -> bool:
        """Let the process give up its task.

        Returns:
            whether it did, so that it can do another task.
        """
        if not self._started or self._connection.closed:
            return False
        until = time.monotonic() + STOP_SECONDS
        try:
            self._connection.send_bytes(STOP)
            while not self._between and self._connection.poll(max(0.0, until - time.monotonic())):
                message = self._connection.recv_bytes(MOST_MESSAGE_BYTES)
                self._between = message[:1] in LAST_MESSAGES
                if time.monotonic() > until:
                    break
        except (EOFError, OSError):
            return False
        return self.usable

    def interrupt(self) -> None:
        """End the process; whoever waits for a message of it goes on."""
        with suppress(ValueError):  # It was closed.
            self._process.kill()

    def kill(self) -> None:
        """End the process and close all that belongs to it; a second time, do nothing."""
        if self._connection.closed:
            return
        self._connection.close()
        self._process.join(0.2)  # It may have ended by itself, as its exit code says.
        self._process.kill()
        self._process.join()
        self._exit_code = self._process.exitcode
        # Its pipes would stay open until the garbage collector comes by.
        self._process.close()


def _reported_error(content: bytes) -> AurisError:
    """The error that a process reports."""
    kind, *texts = json.loads(content)
    return REPORTED_ERRORS[kind](*map(str, texts))


def _too_slow(seconds: float) -> UnreadableAudio:
    return UnreadableAudio(
        f"Decoding the recording took longer than {seconds:g} s",
        "",
        "convert it to a plain format, or cut it into parts",
    )


def _bytes_at(file: IO[bytes], offset: int, size: int) -> bytes:
    if offset < 0 or size > MOST_MESSAGE_BYTES:
        raise EOFError
    file.seek(offset)
    return file.read(size)


class DecoderPool:
    """Processes that decode recordings; as many as there are callers at once.

    Args:
        limits: of every recording.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self._limits = limits or DecodeLimits()
        self._change = threading.Lock()
        self._idle: list[_DecoderProcess] = []
        self._busy: set[_DecoderProcess] = set()
        self._closed = False

    def header(
        self, file: IO[bytes], cancelled: Cancelled, turn_seconds: float = float("inf")
    ) -> Header:
        """Read the header of a file.

        Raises:
            AudioError: it is no recording, or crashes the decoder.
            DecodingStopped: it was cancelled.
            TurnOver: it took more computing time than `turn_seconds`.
        """
        with self._decoder() as decoder:
            task = self._task(file, turn_seconds, look=True)
            (message,) = decoder.messages(file, task, cancelled)
        rate, channels, seconds, guess = json.loads(message[1:])
        return Header(int(rate), int(channels), seconds, guess)

    def stream(
        self,
        file: IO[bytes],
        channels: Channels,
        cancelled: Cancelled,
        turn_seconds: float = float("inf"),
    ) -> Generator[Samples, None, None]:
        """The recording in a file, as of `auris.audio.io.stream`.

        Raises:
            AudioError: it cannot be read to its end, or crashes the decoder.
            DecodingStopped: it was cancelled.
            TurnOver: it took more computing time than `turn_seconds`.
        """
        with self._decoder() as decoder:
            task = self._task(file, turn_seconds, channels=channels)
            for message in decoder.messages(file, task, cancelled):
                if message[:1] == SAMPLES:
                    (rows,) = struct.unpack_from("<I", message, 1)
                    yield np.frombuffer(message, np.float32, offset=5).reshape(rows, -1)

    def close(self) -> None:
        """End all processes; whoever waits for one gets `DecoderCrashed`."""
        with self._change:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            for decoder in self._busy:
                decoder.interrupt()
        for decoder in idle:
            decoder.kill()

    def _task(
        self,
        file: IO[bytes],
        turn_seconds: float,
        look: bool = False,
        channels: Channels = "mix",
    ) -> dict[str, Any]:
        return {
            LOOK: look,
            "size": file.seek(0, os.SEEK_END),
            "channels": channels,
            "cpu_seconds": self._limits.cpu_seconds,
            TURN_SECONDS: turn_seconds,
        }

    @contextmanager
    def _decoder(self) -> Generator[_DecoderProcess, None, None]:
        niceness = _niceness()
        with self._change:
            if self._closed:
                raise DecodingStopped
            idle = [one for one in self._idle if one.niceness == niceness]
            decoder = idle[-1] if idle else _DecoderProcess(self._limits, niceness)
            if idle:
                self._idle.remove(decoder)
            self._busy.add(decoder)
        try:
            yield decoder
        finally:
            usable = decoder.usable or decoder.stop()
            with self._change:
                self._busy.discard(decoder)
                usable = usable and not self._closed
                if usable:
                    self._idle.append(decoder)
            if not usable:
                decoder.kill()


def _niceness() -> int:
    """The priority of the calling thread; processes run at that of the thread they work for."""
    if not hasattr(os, "getpriority"):
        return 0
    return os.getpriority(os.PRIO_PROCESS, 0)
