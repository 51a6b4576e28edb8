"""Running the server: in this process, or in several that share a port."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from auris.errors import UsageError
from auris.server.connections import BACKLOG, GuardedHttp, GuardedWebSocket, most_connections
from auris.server.log import log_config
from auris.server.metrics import MULTIPROCESS
from auris.server.processes import SharedPort, check_free, load_app
from auris.server.settings import Settings

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

_LOG = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and with how many processes.

    Attributes:
        host, port: the address.
        workers: processes.
        stop_seconds: what calls in progress get to finish when stopping.
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
    """Serve until a signal ends it.

    Raises:
        AurisError: a model cannot be loaded, or the settings are wrong.
    """
    if (listening.certificate is None) != (listening.key is None):
        raise UsageError(
            "https needs a certificate and its key", "one is missing", "give both or neither"
        )
    check_free(listening.host, listening.port)
    options: dict[str, Any] = {
        "host": listening.host,
        "port": listening.port,
        "timeout_graceful_shutdown": listening.stop_seconds,
        "log_config": log_config(listening.log_format),
        "access_log": False,
        "server_header": False,
        "limit_concurrency": most_connections(),
        "ssl_certfile": listening.certificate,
        "ssl_keyfile": listening.key,
        **CONNECTIONS,
    }
    if listening.workers == 1:
        server = uvicorn.Server(uvicorn.Config(load_app(settings), **options))
        server.run()
        if not server.started:
            sys.exit(1)
        return
    application = partial(load_app, settings)
    config = uvicorn.Config(application, factory=True, workers=listening.workers, **options)
    with tempfile.TemporaryDirectory(prefix="auris-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder
        _run_workers(config)


def _run_workers(config: uvicorn.Config) -> None:
    if sys.platform == "linux":
        port: socket.socket = SharedPort.bound(config.host, config.port)
        host, number = port.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if config.is_ssl else "http"
        _LOG.info("Uvicorn running on %s://%s:%d", scheme, shown, number)
    else:
        port = config.bind_socket()
    Multiprocess(config, [port]).run()
