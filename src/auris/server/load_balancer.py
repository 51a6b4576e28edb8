"""Connections of one port, dealt to the worker process that has the fewest open ones.

The supervisor accepts all connections and hands each one over through a Unix socket that the worker
opens when it can serve. Where Linux or the processes themselves spread connections, one process may
get the live streams of twice as many callers as another one.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import signal
import socket
import struct
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

COUNT = struct.Struct("<Q")
"""What a worker writes when a connection ends: how many of those it got have ended."""

LONGEST_FOLDER = 70
"""Letters of the name of a folder with Unix sockets, whose whole name may have about 100."""

RETRY_SECONDS = 1.0
"""How long a worker with too many open files accepts nothing."""

WARNING_SECONDS = 10.0
"""Time between lines of the log about connections that were lost."""

NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of a system that has no room for another connection."""

_LOG = logging.getLogger(__name__)


class WorkerSocket(socket.socket):
    """A worker's listening socket: it accepts the connections that a `LoadBalancer` deals.

    It is made in the supervisor, without a connection, and becomes another one in each process that
    it is sent to.

    Args:
        path: of the Unix socket of the balancer.
    """

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._ended = 0
        self._retry_at = 0.0
        self._orphaned = False

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerSocket, (self._path,)

    def listen(self, backlog: int = 0, /) -> None:
        """Let the balancer deal connections to this process."""
        timeout = self.gettimeout()
        self.setblocking(True)
        self.connect(self._path)
        self.settimeout(timeout)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, and the address of its client.

        Raises:
            BlockingIOError: there is none now.
            ConnectionAbortedError: the client has disconnected, or the supervisor has ended, which
                ends this process, too.
            OSError: this process has as many open files as it may; the connection is lost.
        """
        if time.monotonic() < self._retry_at:
            raise BlockingIOError
        data, files, _, _ = socket.recv_fds(self, 1, 1)
        if not data:
            if not self._orphaned:
                self._orphaned = True
                os.kill(os.getpid(), signal.SIGTERM)
            raise ConnectionAbortedError("the supervisor has ended")
        if not files:
            self._count_end()
            self._retry_at = time.monotonic() + RETRY_SECONDS
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.set_inheritable(files[0], False)
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
        ended: called once, when it is closed or collected.
    """

    def __init__(self, file: int, ended: Callable[[], None]) -> None:
        super().__init__(fileno=file)
        self._end = weakref.finalize(self, ended)
        self._end.atexit = False

    def close(self) -> None:
        """Close it, and report this."""
        super().close()
        self._end()


class _Worker:
    """The balancer's end of a worker's socket.

    Attributes:
        link: to the worker, not blocking.
        dealt: connections that it got.
    """

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
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
        except (BlockingIOError, InterruptedError):
            return True
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
        backlog: connections that the system holds until they are accepted.
        stopping: set when the server stops; the port is closed when the last worker has ended. Set
            by the balancer itself if it cannot continue.

    Attributes:
        path: of the Unix socket for the workers.
        failed: whether it could not continue.
    """

    def __init__(self, port: socket.socket, backlog: int, stopping: threading.Event) -> None:
        self._port = port
        self._backlog = backlog
        self._stopping = stopping
        # Long names of temporary folders leave no room for the name of a Unix socket.
        short = len(tempfile.gettempdir()) <= LONGEST_FOLDER
        self._folder = tempfile.TemporaryDirectory(
            prefix="auris-workers-", dir=None if short else "/tmp"
        )
        self.path = os.path.join(self._folder.name, "socket")
        self._entrance = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._entrance.bind(self.path)
        self._entrance.listen()
        self._entrance.setblocking(False)
        self._port.setblocking(False)
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._warn_at = 0.0
        self.failed = False

    def run(self) -> None:
        """Deal connections until the server stops; for a thread of its own."""
        try:
            self._selector.register(self._entrance, selectors.EVENT_READ, self._add_worker)
            while self._workers or not self._stopping.is_set():
                for key, _ in self._selector.select(timeout=1.0):
                    key.data()
        except Exception:  # The server cannot serve without it.
            self.failed = True
            _LOG.exception("The server accepts no connections any more, and stops.")
        finally:
            self._stopping.set()
            self._port.close()
            for worker in self._workers:
                worker.link.close()

    def close(self) -> None:
        """Remove the Unix socket, once `run` and all workers have ended. A worker that becomes
        ready while the server stops still finds it."""
        self._entrance.close()
        self._selector.close()
        self._folder.cleanup()

    def _add_worker(self) -> None:
        try:
            link, _ = self._entrance.accept()
        except OSError as error:
            self._pause(error)
            return
        worker = _Worker(link)
        self._workers.append(worker)
        self._selector.register(link, selectors.EVENT_READ, partial(self._read, worker))
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
        """Accept a connection, and hand it to the worker with the fewest open ones; if none takes
        it, it is closed."""
        if not self._workers:  # The last one ended just now.
            return
        try:
            connection, _ = self._port.accept()
        except OSError as error:
            self._pause(error)
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
        self._warn("a connection was closed: no process of the server takes it")

    def _pause(self, error: OSError) -> None:
        """Wait where the system has no room for a connection; other errors are of one that has
        ended."""
        if error.errno in NO_RESOURCES:
            self._warn(f"connections could not be accepted ({error.strerror})")
            time.sleep(0.1)

    def _warn(self, text: str) -> None:
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + WARNING_SECONDS
            _LOG.warning(text)
