"""Running the program: in this process, or in several that share a port."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from auris.errors import UsageError
from auris.server.app import create_app
from auris.server.connections import BACKLOG, GuardedHttp, GuardedWebSocket, most_connections
from auris.server.log import log_config
from auris.server.metrics import MULTIPROCESS
from auris.server.port import SharedPort, check_free
from auris.server.settings import Settings
from auris.server.state import Server
from auris.server.worker import WorkerProgram

__all__ = ["CONNECTIONS", "Listening", "run"]

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
    # Audio hardly shrinks, and what is small could unpack to what is large.
    "ws_per_message_deflate": False,
}
"""uvicorn's options of connections."""

_LOG = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and with how many processes.

    Attributes:
        host, port: the address.
        workers: processes.
        stop_seconds: what calls under way get to finish when stopping.
        log_format: one of `auris.server.log.FORMATS`.
        certificate, key: files for https.
    """

    host: str
    port: int
    workers: int
    stop_seconds: int
    log_format: str = "text"
    certificate: Path | None = None
    key: Path | None = None


def run(settings: Settings, listening: Listening) -> None:
    """Serve until told to stop.

    Raises:
        AurisError: a model cannot be loaded, or the settings are wrong.
    """
    options: dict[str, Any] = {
        "host": listening.host,
        "port": listening.port,
        "timeout_graceful_shutdown": listening.stop_seconds,
        "log_config": log_config(listening.log_format),
        "access_log": False,
        "server_header": False,
        "limit_concurrency": most_connections(),
        **CONNECTIONS,
    }
    if (listening.certificate is None) != (listening.key is None):
        raise UsageError(
            "https needs a certificate and its key", "one is missing", "give both or neither"
        )
    if listening.certificate is not None:
        options["ssl_certfile"] = str(listening.certificate)
        options["ssl_keyfile"] = str(listening.key)
    check_free(listening.host, listening.port)
    if listening.workers == 1:
        server = uvicorn.Server(uvicorn.Config(create_app(Server.load(settings)), **options))
        server.run()
        if not server.started:
            sys.exit(1)
        return
    config = uvicorn.Config(
        WorkerProgram(settings), factory=True, workers=listening.workers, **options
    )
    with tempfile.TemporaryDirectory(prefix="auris-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        _run_workers(config)


def _run_workers(config: uvicorn.Config) -> None:
    """Run the worker processes; they get the settings, keys included, through a pipe."""
    if sys.platform == "linux":
        port: socket.socket = SharedPort.bound(config.host, config.port)
        host, number = port.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if config.is_ssl else "http"
        _LOG.info("Uvicorn running on %s://%s:%d", scheme, shown, number)
    else:
        port = config.bind_socket()
    Multiprocess(config, [port]).run()
