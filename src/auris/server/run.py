"""Running the server: in this process, or in several that share a port.

uvicorn sends the application and the socket to worker processes through the pipe by which it starts
them. A process imports this module before it can answer that it lives, so it imports little.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from auris.errors import UsageError
from auris.server.connections import BACKLOG, GuardedHttp, GuardedWebSocket, most_connections
from auris.server.load_balancer import LoadBalancer, WorkerSocket
from auris.server.log import log_config
from auris.server.metrics import MULTIPROCESS
from auris.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

CONNECTIONS: dict[str, Any] = {
    "loop": "asyncio",
    "backlog": BACKLOG,
    "http": GuardedHttp,
    "h11_max_incomplete_event_size": 64 << 10,
    "timeout_keep_alive": 5,
    "ws": GuardedWebSocket,
    "ws_max_size": 16 << 20,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    # Audio hardly shrinks, and small messages could unpack to large ones.
    "ws_per_message_deflate": False,
}
"""uvicorn's options of connections."""


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises:
        AurisError: a model cannot be loaded, or the port is taken.
    """
    free_port(settings.host, settings.port)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "timeout_graceful_shutdown": settings.stop_seconds,
        "log_config": log_config(settings.log_format),
        "access_log": False,
        "server_header": False,
        "limit_concurrency": most_connections(),
        "ssl_certfile": settings.certificate,
        "ssl_keyfile": settings.key,
        **CONNECTIONS,
    }
    if settings.workers == 1:
        server = uvicorn.Server(uvicorn.Config(_load_app(settings), **options))
        server.run()
        if not server.started:
            sys.exit(1)
        return
    application = partial(_load_app, settings)
    config = uvicorn.Config(application, factory=True, workers=settings.workers, **options)
    with tempfile.TemporaryDirectory(prefix="auris-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        _run_workers(config)


def _load_app(settings: Settings) -> FastAPI:
    from auris.server.app import create_app
    from auris.server.state import Server

    return create_app(Server.load(settings))


def _run_workers(config: uvicorn.Config) -> None:
    port = config.bind_socket()
    if not hasattr(socket, "send_fds"):  # Windows: the workers share the socket.
        Multiprocess(config, [port]).run()
        return
    stopping = threading.Event()
    with closing(LoadBalancer(port, BACKLOG, stopping)) as balancer:
        supervisor = Multiprocess(config, [WorkerSocket(balancer.path)])
        supervisor.should_exit = stopping
        dealing = threading.Thread(target=balancer.run, name="auris-balancer", daemon=True)
        dealing.start()
        supervisor.run()
        dealing.join()
    if balancer.failed:
        sys.exit(1)


def free_port(host: str, port: int) -> int:
    """The port, or a free one in place of 0.

    Raises:
        UsageError: the port is taken, or the address is none of this machine's.
    """
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UsageError(
            f"The server cannot listen at {host}:{port} ({error.strerror})",
            "",
            "choose another port, or end what listens there",
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
