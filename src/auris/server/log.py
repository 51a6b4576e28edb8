"""What the server logs. Worker processes load this before anything else, so it loads little."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["LOGS", "WithoutWebSockets"]

LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "filters": {"without_websockets": {"()": "auris.server.log.WithoutWebSockets"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["without_websockets"],
            "stream": "ext://sys.stderr",
        }
    },
    "loggers": {
        name: {"handlers": ["stderr"], "level": level, "propagate": False}
        for name, level in (
            ("auris", "INFO"),
            ("uvicorn", "INFO"),
            ("uvicorn.error", "INFO"),
            # It quotes bytes of broken forms.
            ("python_multipart", "CRITICAL"),
        )
    },
}
"""uvicorn's own log of requests is off: it writes whole addresses."""


OF_CLIENTS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
"""What uvicorn calls an error where a handshake was refused with an answer of our own, and where a
client broke the protocol; `auris.server.access` has a line with status and code for both."""


class WithoutWebSockets(logging.Filter):
    """Leaves out uvicorn's lines about WebSockets, which no option turns off: they hold addresses,
    or take what clients do for errors of the server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        said = str(record.msg)
        return '"WebSocket ' not in said and said not in OF_CLIENTS
