"""Running the program: in this process, or in several that share a port."""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from auris.errors import UsageError
from auris.server.app import SETTINGS, create_app
from auris.server.log import LOGS
from auris.server.port import SharedPort, check_free
from auris.server.settings import Settings
from auris.server.state import Server

__all__ = ["SOCKETS", "Listening", "run"]

PROGRAM = "auris.server.app:from_environment"
"""What a worker process runs."""

SOCKETS: dict[str, Any] = {
    "ws": "websockets-sansio",
    "ws_max_size": 16 << 20,
    # Audio hardly shrinks, and what is small could unpack to what is large.
    "ws_per_message_deflate": False,
}
"""uvicorn's options of WebSockets."""

_LOG = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and with how many processes.

    Attributes:
        host, port: the address.
        workers: processes.
        stop_seconds: what calls under way get to finish when stopping.
        certificate, key: files for https.
    """

    host: str
    port: int
    workers: int
    stop_seconds: int
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
        "log_config": LOGS,
        "access_log": False,
        "server_header": False,
        **SOCKETS,
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
    os.environ[SETTINGS] = settings.to_json()
    _run_workers(uvicorn.Config(PROGRAM, factory=True, workers=listening.workers, **options))


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
