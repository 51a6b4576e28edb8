"""Connections of one port, dealt to the worker process that has the fewest open ones.

The supervisor accepts all connections and hands each one over through a Unix socket that the worker
opens when it can serve. Where Linux or the processes themselves spread connections, one process may
get the live streams of twice as many callers as another one.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

COUNT = struct.Struct("<Q")
"""What a worker writes when a connection ends: how many of those it got have ended."""


class WorkerSocket(socket.socket):
    """A worker's listening socket: it accepts the connections that a `LoadBalancer` deals.

    It is made in the supervisor, without a connection, and becomes one in each process that it is
    sent to.

    Args:
        path: of the Unix socket of the balancer.
    """

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._ended = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerSocket, (self._path,)

    def listen(self, backlog: int = 0, /) -> None:
        """Let the balancer deal connections to this process."""
        blocking = self.getblocking()
        self.setblocking(True)
        self.connect(self._path)
        self.setblocking(blocking)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, and the address of its client.

        Raises:
            BlockingIOError: there is none now.
            ConnectionAbortedError: the client has disconnected, or the supervisor has ended, which
                ends this process, too.
            OSError: this process has as many open files as it may; the connection is lost.
        """
        data, files, _, _ = socket.recv_fds(self, 1, 1)
        if not data:
            os.kill(os.getpid(), signal.SIGTERM)
            raise ConnectionAbortedError("the supervisor has ended")
        if not files:
            self._count_end()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        connection = _DealtSocket(files[0], self._count_end)
        try:
            return connection, connection.getpeername()
        except OSError:
            connection.close()
            raise ConnectionAbortedError("the client has disconnected") from None

    def _count_end(self) -> None:
        self._ended += 1
        with suppress(OSError):  # The next count includes this one, or nobody counts any more.
            self.send(COUNT.pack(self._ended))


class _DealtSocket(socket.socket):
    """A connection that a worker got, which reports its end.

    Args:
        file: descriptor of the connection.
        ended: called once, when it is closed.
    """

    def __init__(self, file: int, ended: Callable[[], None]) -> None:
        super().__init__(fileno=file)
        self._report: Callable[[], None] | None = ended

    def close(self) -> None:
        """Close it, and report this."""
        super().close()
        report, self._report = self._report, None
        if report is not None:
            report()


class _Worker:
    """The balancer's end of a worker's socket.

    Attributes:
        link: to the worker.
        dealt: connections that it got.
    """

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.dealt = 0
        self._ended = 0
        self._unread = b""

    @property
    def open(self) -> int:
        """How many connections it has."""
        return self.dealt - self._ended

    def read_counts(self) -> bool:
        """Read what the worker has written; returns whether it still runs."""
        try:
            data = self.link.recv(1 << 16)
        except OSError:
            data = b""
        self._unread += data
        length = len(self._unread) // COUNT.size * COUNT.size
        if length:
            (self._ended,) = COUNT.unpack(self._unread[length - COUNT.size : length])
            self._unread = self._unread[length:]
        return bool(data)


class LoadBalancer:
    """Accepts the connections of a port and deals them to workers.

    Connections wait in the queue of the port while no worker can serve.

    Args:
        port: bound, not yet listening.
        path: where the Unix socket for the workers is made.
        backlog: connections that the system holds until they are accepted.
        stopping: whether the server stops, so that the port is closed when the last worker ends.
    """

    def __init__(
        self, port: socket.socket, path: str, backlog: int, stopping: Callable[[], bool]
    ) -> None:
        self._port = port
        self._backlog = backlog
        self._stopping = stopping
        self._entrance = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._entrance.bind(path)
        self._entrance.listen()
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Deal connections until the server stops; for a thread of its own."""
        with self._selector, self._port, self._entrance:
            self._port.setblocking(False)
            self._selector.register(self._entrance, selectors.EVENT_READ, self._add_worker)
            while self._workers or not self._stopping():
                for key, _ in self._selector.select(timeout=1.0):
                    key.data()

    def _add_worker(self) -> None:
        worker = _Worker(self._entrance.accept()[0])
        worker.link.setblocking(False)
        self._workers.append(worker)
        self._selector.register(worker.link, selectors.EVENT_READ, partial(self._read, worker))
        if len(self._workers) == 1:
            self._port.listen(self._backlog)
            self._selector.register(self._port, selectors.EVENT_READ, self._deal)

    def _read(self, worker: _Worker) -> None:
        if worker in self._workers and not worker.read_counts():
            self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        self._selector.unregister(worker.link)
        worker.link.close()
        self._workers.remove(worker)
        if not self._workers:
            self._selector.unregister(self._port)

    def _deal(self) -> None:
        """Accept a connection, and hand it to the worker with the fewest open ones; without one
        that takes it, it is closed."""
        try:
            connection, _ = self._port.accept()
        except OSError:  # The client has disconnected, or there are too many open files.
            return
        with connection:
            for worker in sorted(self._workers, key=lambda one: (one.open, one.dealt)):
                try:
                    socket.send_fds(worker.link, [b"c"], [connection.fileno()])
                except ConnectionError:
                    self._remove(worker)
                except OSError:  # Too many connections wait in the link.
                    continue
                else:
                    worker.dealt += 1
                    return
