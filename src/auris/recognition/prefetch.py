"""Processes that read recordings ahead, while the model is busy with others.

The chunks and their order are the same as without these processes, so results are identical. Each
process reads one recording at a time. It waits with its next chunk until the one before is taken,
so it needs little memory. If a decoder crashes or needs too much memory, only its recording fails.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection

from auris.audio.activity import block_detector
from auris.audio.decoder_process import limit_memory
from auris.audio.io import Excerpt, Source
from auris.audio.isolation import DecodeLimits
from auris.errors import AurisError, UnreadableAudio
from auris.recognition.chunker import AudioChunker
from auris.types import Chunk

EXIT_SECONDS = 1.0
"""How long a process that has closed its connection may take to end."""


class _PrefetchProcess:
    """A process and the sources that it has to read."""

    def __init__(self, chunker: AudioChunker) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, chunker), daemon=True)
        with _interrupts_blocked():
            self.process.start()
        theirs.close()
        self.sources: deque[str | Excerpt] = deque()

    def add(self, source: str | Excerpt) -> None:
        self.sources.append(source)
        # If the process has died, the next read reports it.
        with suppress(OSError):
            self.connection.send(source)

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C while a process is started, so that it can choose to ignore Ctrl-C first."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # Its own start would end the block.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, chunker: AudioChunker) -> None:
    """The main function of a process: read sources until the connection is closed.

    It sends the chunks of each source, then None, or the error that ended it.
    """
    # The main process handles Ctrl-C and ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if chunker.vad or chunker.end_at_pauses:
        # A neural detector needs torch, which may take more memory than the limit leaves.
        block_detector(chunker.vad_model)
    limit_memory(DecodeLimits().memory_bytes)
    with suppress(EOFError, OSError):
        while True:
            source = connection.recv()
            try:
                for chunk in chunker.chunks(source):
                    connection.send(chunk)
                connection.send(None)
            except AurisError as error:
                connection.send(error)


class Prefetcher:
    """Reads recordings in `workers` processes, which end with its `with` block.

    Paths, addresses and portable excerpts are read ahead; standard input, arrays, bytes and file
    objects are not.
    """

    def __init__(self, chunker: AudioChunker, workers: int) -> None:
        self._chunker = chunker
        self._readers = [_PrefetchProcess(chunker) for _ in range(workers)]
        self._queue: deque[tuple[Source, int | None]] = deque()
        self._next_reader = 0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        for reader in self._readers:
            reader.close()

    def sources(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, in order; the ones that follow are given to processes first.

        `chunks` has to be called for each, in this order.
        """
        waiting = iter(sources)
        while True:
            for source in islice(waiting, len(self._readers) - len(self._queue)):
                self._enqueue(source)
            if not self._queue:
                return
            yield self._queue[0][0]

    def _enqueue(self, source: Source) -> None:
        portable = source.portable if isinstance(source, Excerpt) else False
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
        if name == "-" and not portable:
            self._queue.append((source, None))
            return
        self._readers[self._next_reader].add(source if isinstance(source, Excerpt) else name)
        self._queue.append((source, self._next_reader))
        self._next_reader = (self._next_reader + 1) % len(self._readers)

    def chunks(self, source: Source) -> Iterator[Chunk]:
        """The chunks of the source that `sources` gave last, as of `AudioChunker.chunks`."""
        _, number = self._queue.popleft()
        return self._chunker.chunks(source) if number is None else self._received(number)

    def _received(self, number: int) -> Iterator[Chunk]:
        reader = self._readers[number]
        source = reader.sources.popleft()
        while True:
            try:
                answer: Chunk | AurisError | None = reader.connection.recv()
            except (EOFError, OSError):
                self._replace(number)
                name = repr(source) if isinstance(source, str) else "a recording"
                raise UnreadableAudio(
                    f"The process that read {name} died (exit code {reader.process.exitcode})",
                    "",
                    "check the file and the machine's memory",
                ) from None
            if answer is None:
                return
            if isinstance(answer, AurisError):
                raise answer
            yield answer

    def _replace(self, number: int) -> None:
        """Replace a process that has died; the new one reads the remaining sources."""
        dead = self._readers[number]
        dead.process.join(EXIT_SECONDS)  # Its exit code tells why it died.
        dead.close()
        self._readers[number] = fresh = _PrefetchProcess(self._chunker)
        for source in dead.sources:
            fresh.add(source)
