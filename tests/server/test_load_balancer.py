"""Connections are dealt to the worker that has the fewest open ones."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from auris.server.load_balancer import LoadBalancer, WorkerSocket
from tests.server.live import until

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "send_fds"), reason="only Unix hands connections to other processes"
)


class Balanced:
    """A balancer in a thread, its workers and clients in this process."""

    def __init__(self, folder: Path) -> None:
        self.stack = ExitStack()
        self.path = str(folder / "workers")
        self.stopping = threading.Event()
        port = socket.socket()
        port.bind(("127.0.0.1", 0))
        self.address = port.getsockname()
        self.balancer = LoadBalancer(port, self.path, 16, self.stopping.is_set)
        self.thread = threading.Thread(target=self.balancer.run)
        self.thread.start()

    def worker(self) -> WorkerSocket:
        """A worker that can serve, as a process gets it."""
        with WorkerSocket(self.path) as made:
            worker: WorkerSocket = pickle.loads(pickle.dumps(made))
        self.stack.enter_context(worker)
        worker.settimeout(10)
        worker.listen(16)
        return worker

    def connect(self) -> socket.socket:
        """A client, which may connect once a worker can serve."""
        end = time.monotonic() + 10
        while True:
            try:
                return self.stack.enter_context(socket.create_connection(self.address, 10))
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.01)

    def accepted(self, worker: WorkerSocket) -> socket.socket:
        return self.stack.enter_context(worker.accept()[0])


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    balanced = Balanced(tmp_path)
    yield balanced
    balanced.stopping.set()
    balanced.stack.close()
    balanced.thread.join(10)
    assert not balanced.thread.is_alive()


def waiting(worker: WorkerSocket) -> int:
    """How many connections a worker gets that were not accepted; they are closed."""
    count = 0
    worker.settimeout(0.3)
    try:
        while True:
            worker.accept()[0].close()
            count += 1
    except TimeoutError:
        return count
    finally:
        worker.settimeout(10)


def test_the_worker_with_the_fewest_connections_gets_the_next(balanced: Balanced) -> None:
    first, second = balanced.worker(), balanced.worker()
    clients = [balanced.connect() for _ in range(10)]
    of_first = [balanced.accepted(first) for _ in range(5)]
    of_second = [balanced.accepted(second) for _ in range(5)]
    for connection in of_second[:3]:
        connection.close()
    # Its counts are read before a later connection is accepted.
    time.sleep(0.3)
    more = [balanced.connect() for _ in range(3)]
    of_second = of_second[3:] + [balanced.accepted(second) for _ in range(3)]
    assert waiting(first) == 0
    ports = {client.getsockname()[1] for client in clients + more}
    for connection in of_first + of_second:
        assert connection.getpeername()[1] in ports
        connection.sendall(b"x")


def test_the_address_of_the_client_is_known(balanced: Balanced) -> None:
    worker = balanced.worker()
    client = balanced.connect()
    connection, address = worker.accept()
    with connection:
        assert address == client.getsockname()
        client.sendall(b"question")
        assert connection.recv(20) == b"question"


def test_connections_go_to_the_workers_that_are_left(balanced: Balanced) -> None:
    first, second = balanced.worker(), balanced.worker()
    balanced.connect()
    first.close()
    for _ in range(4):
        balanced.connect()
    assert waiting(second) >= 4


def test_connections_wait_for_a_worker(balanced: Balanced) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(balanced.address, 10)
    first = balanced.worker()
    balanced.connect()
    balanced.accepted(first)
    first.close()
    until(lambda: not balanced.balancer._workers)
    client = balanced.connect()
    client.sendall(b"early")
    assert balanced.accepted(balanced.worker()).recv(10) == b"early"


def test_a_worker_ends_with_the_supervisor(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, kind: sent.append((process, kind)))
    worker = balanced.worker()
    balanced.connect()
    balanced.accepted(worker)
    balanced.balancer._workers[0].link.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionAbortedError, match="the supervisor has ended"):
        worker.accept()
    assert sent == [(os.getpid(), signal.SIGTERM)]
