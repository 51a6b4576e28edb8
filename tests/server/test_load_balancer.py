"""Connections are dealt to the worker that has the fewest open ones."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from auris.server import load_balancer
from auris.server.load_balancer import LoadBalancer, WorkerSocket
from tests.server.live import until

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "send_fds"), reason="only Unix hands connections to other processes"
)


class Balanced:
    """A balancer in a thread, its workers and clients in this process."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.stopping = threading.Event()
        port = socket.socket()
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", 0))
        self.address = port.getsockname()
        self.balancer = LoadBalancer(port, 16, self.stopping)
        self.thread = threading.Thread(target=self.balancer.run)
        self.thread.start()

    def worker(self) -> WorkerSocket:
        """A worker that can serve, as a process gets it."""
        with WorkerSocket(self.balancer.path) as made:
            worker: WorkerSocket = pickle.loads(pickle.dumps(made))
        self.stack.enter_context(worker)
        worker.settimeout(30)
        before = len(self.balancer._workers)
        worker.listen(16)
        until(lambda: self._serves(before + 1) or not self.thread.is_alive())
        return worker

    def _serves(self, workers: int) -> bool:
        """Whether there are so many workers, and the port listens for them."""
        with suppress(OSError):  # The port is closed where the balancer could not continue.
            listens = self.balancer._port.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listens) and len(self.balancer._workers) >= workers
        return False

    def connect(self) -> socket.socket:
        """A client of the port, which listens."""
        return self.stack.enter_context(socket.create_connection(self.address, 30))

    def accepted(self, worker: WorkerSocket) -> socket.socket:
        """The next connection that a worker gets."""
        return self.stack.enter_context(worker.accept()[0])

    def open(self) -> list[int]:
        """Open connections of the workers, as the balancer knows them."""
        return [one.open for one in self.balancer._workers]


@pytest.fixture
def balanced() -> Iterator[Balanced]:
    balanced = Balanced()
    yield balanced
    balanced.stopping.set()
    balanced.stack.close()
    balanced.thread.join(30)
    assert not balanced.thread.is_alive()
    balanced.balancer.close()
    assert not os.path.exists(balanced.balancer.path)


def test_the_worker_with_the_fewest_connections_gets_the_next(balanced: Balanced) -> None:
    first, second = balanced.worker(), balanced.worker()
    clients = [balanced.connect() for _ in range(10)]
    of_first = [balanced.accepted(first) for _ in range(5)]
    of_second = [balanced.accepted(second) for _ in range(5)]
    for connection in of_second[:3]:
        connection.close()
    until(lambda: balanced.open() == [5, 2])
    clients += [balanced.connect() for _ in range(3)]
    of_second = of_second[3:] + [balanced.accepted(second) for _ in range(3)]
    until(lambda: balanced.open() == [5, 5])
    ports = {client.getsockname()[1] for client in clients}
    assert {one.getpeername()[1] for one in of_first + of_second} <= ports


def test_a_connection_that_is_collected_has_ended(balanced: Balanced) -> None:
    worker = balanced.worker()
    balanced.connect()
    connection, _ = worker.accept()
    os.close(connection.detach())
    del connection
    gc.collect()
    until(lambda: balanced.open() == [0])


def test_the_connection_is_that_of_the_client(balanced: Balanced) -> None:
    worker = balanced.worker()
    client = balanced.connect()
    connection, address = worker.accept()
    with connection:
        assert address == client.getsockname()
        assert not connection.get_inheritable()
        client.sendall(b"question")
        assert connection.recv(20) == b"question"


def test_connections_go_to_the_workers_that_are_left(balanced: Balanced) -> None:
    first, second = balanced.worker(), balanced.worker()
    first.close()
    for _ in range(4):
        balanced.connect()
    for _ in range(4):
        balanced.accepted(second)
    until(lambda: balanced.open() == [4])


def test_connections_wait_for_a_worker(balanced: Balanced) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(balanced.address, 30)
    balanced.worker().close()
    until(lambda: not balanced.open())
    client = balanced.connect()
    client.sendall(b"early")
    assert balanced.accepted(balanced.worker()).recv(10) == b"early"


def test_a_worker_that_is_ready_while_the_server_stops_is_not_refused(balanced: Balanced) -> None:
    balanced.stopping.set()
    balanced.thread.join(30)
    with WorkerSocket(balanced.balancer.path) as worker:
        worker.listen(16)


def test_a_worker_ends_once_with_the_supervisor(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    worker = balanced.worker()
    balanced.balancer._workers[0].link.shutdown(socket.SHUT_RDWR)
    for _ in range(3):
        with pytest.raises(ConnectionAbortedError, match="the supervisor has ended"):
            worker.accept()
    assert signals == [(os.getpid(), signal.SIGTERM)]


def test_a_port_that_another_program_takes_stops_the_server(
    balanced: Balanced, caplog: pytest.LogCaptureFixture
) -> None:
    """Until a worker can serve, the port is bound and does not listen."""
    with socket.create_server(balanced.address):
        balanced.worker()
        balanced.thread.join(30)
    assert balanced.balancer.failed
    assert balanced.stopping.is_set()
    assert "accepts no connections any more" in caplog.text


def test_a_worker_with_too_many_open_files_accepts_nothing_for_a_while(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_balancer, "RETRY_SECONDS", 600.0)
    worker = balanced.worker()
    balanced.connect()
    received = socket.recv_fds

    def without_files(*given: Any) -> tuple[Any, ...]:
        data, files, *rest = received(*given)
        for file in files:
            os.close(file)
        return data, [], *rest

    monkeypatch.setattr(socket, "recv_fds", without_files)
    with pytest.raises(OSError, match="open files") as error:
        worker.accept()
    assert error.value.errno == errno.EMFILE
    with pytest.raises(BlockingIOError):
        worker.accept()
    until(lambda: balanced.open() == [0])


def test_a_client_that_is_gone_is_counted(balanced: Balanced) -> None:
    worker = balanced.worker()
    client = balanced.connect()
    until(lambda: balanced.open() == [1])
    # The connection is reset.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionAbortedError, match="the client has disconnected"):
        worker.accept()
    until(lambda: balanced.open() == [0])


def test_a_connection_that_no_worker_takes_is_reported(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    balanced.worker()

    def full(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(socket, "send_fds", full)
    assert balanced.connect().recv(1) == b""
    until(lambda: "no process of the server takes it" in caplog.text)


def test_too_many_open_files_are_reported_once(
    balanced: Balanced, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        balanced.balancer._pause(OSError(errno.EMFILE, "Too many open files"))
        balanced.balancer._pause(OSError(errno.ECONNABORTED, "gone"))
    assert caplog.text.count("could not be accepted") == 1
    assert "gone" not in caplog.text


def test_a_long_name_of_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    long = os.path.join(tempfile.gettempdir(), "x" * load_balancer.LONGEST_FOLDER)
    monkeypatch.setattr(tempfile, "tempdir", long)
    with socket.socket() as port:
        balancer = LoadBalancer(port, 16, threading.Event())
    assert len(balancer.path) < load_balancer.LONGEST_FOLDER
    balancer.close()
