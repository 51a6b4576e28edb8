"""Processes that read recordings ahead, while the model is busy with others.

Decoding, resampling and cutting are the same as in line, in the same order, so results are
identical. Each process reads one recording at a time and waits with its next chunk until the one
before is taken, so that it needs little memory. If a decoder crashes or needs too much memory, only
its recording fails.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection

from auris.audio.decoder_process import limit_memory
from auris.audio.io import Source
from auris.audio.isolation import DecodeLimits
from auris.errors import AurisError, UnreadableAudio
from auris.recognition.chunker import AudioChunker
from auris.types import Chunk

__all__ = ["Prefetcher"]


class _PrefetchProcess:
    """A process and the sources that it was given."""

    def __init__(self, reading: AudioChunker) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, reading), daemon=True)
        self.process.start()
        theirs.close()
        self.given: deque[str] = deque()

    def give(self, source: str) -> None:
        self.given.append(source)
        try:
            self.connection.send(source)
        except OSError:
            return  # It has died; `take` reports that.

    def take(self) -> Chunk | AurisError | None:
        """The next chunk, an error, or None at a recording's end.

        Raises:
            EOFError, OSError: the process has died.
        """
        answer: Chunk | AurisError | None = self.connection.recv()
        return answer

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, reading: AudioChunker) -> None:
    """The main function of a process: read sources until the connection is closed."""
    # Ctrl-C is for the program, which ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_memory(DecodeLimits().memory_bytes)
    try:
        while True:
            source = connection.recv()
            try:
                for chunk in reading.chunks(source):
                    connection.send(chunk)
                connection.send(None)
            except AurisError as error:
                connection.send(error)
    except (EOFError, OSError):
        return


class Prefetcher:
    """Reads recordings in processes of its own. Close it when done, or use it in `with`.

    Args:
        reading: how they are read.
        workers: how many processes, at least 1.

    Paths and addresses are read ahead; standard input, arrays, bytes and file objects in line.
    """

    def __init__(self, reading: AudioChunker, workers: int) -> None:
        self._reading = reading
        self._readers = [_PrefetchProcess(reading) for _ in range(workers)]
        self._queue: deque[tuple[Source, int | None]] = deque()
        self._turn = 0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for reader in self._readers:
            reader.close()

    def sources(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, each after the next ones have been given to processes.

        `chunks` has to be called for each, in this order.
        """
        waiting = iter(sources)
        exhausted = False
        while True:
            while not exhausted and len(self._queue) < len(self._readers):
                try:
                    self._hand_out(next(waiting))
                except StopIteration:
                    exhausted = True
            if not self._queue:
                return
            yield self._queue[0][0]

    def _hand_out(self, source: Source) -> None:
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
        if name == "-":
            self._queue.append((source, None))
            return
        self._readers[self._turn].give(name)
        self._queue.append((source, self._turn))
        self._turn = (self._turn + 1) % len(self._readers)

    def chunks(self, source: Source) -> Iterator[Chunk]:
        """The chunks of the source that `sources` gave last.

        Raises:
            AudioError, UsageError: as of `AudioChunker.chunks`, or its process has died.
        """
        _, number = self._queue.popleft()
        if number is None:
            return self._reading.chunks(source)
        return self._received(number)

    def _received(self, number: int) -> Iterator[Chunk]:
        reader = self._readers[number]
        source = reader.given.popleft()
        while True:
            try:
                answer = reader.take()
            except (EOFError, OSError):
                self._replace(number)
                raise UnreadableAudio(
                    "A recording has to be readable",
                    f"the process that read {source!r} died (exit code {reader.process.exitcode})",
                    "check the file and the machine's memory",
                ) from None
            if answer is None:
                return
            if isinstance(answer, AurisError):
                raise answer
            yield answer

    def _replace(self, number: int) -> None:
        """Replace a process that has died; the new one reads the sources that were left."""
        dead = self._readers[number]
        dead.close()
        self._readers[number] = fresh = _PrefetchProcess(self._reading)
        for source in dead.given:
            fresh.give(source)
