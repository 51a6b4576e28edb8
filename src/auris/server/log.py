"""What the server logs. Worker processes load this before anything else, so it loads little."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

__all__ = ["FORMATS", "JsonLines", "WithoutWebSockets", "log_config"]

FORMATS = ("text", "json")

FIELDS = "fields"
"""Attribute of a record with further fields of its JSON form."""


def log_config(form: str) -> dict[str, Any]:
    """The configuration of all loggers.

    uvicorn's own log of requests is off: it writes whole addresses.

    Args:
        form: one of `FORMATS`.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"},
            "json": {"()": "auris.server.log.JsonLines"},
        },
        "filters": {"without_websockets": {"()": "auris.server.log.WithoutWebSockets"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": form,
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
                # asyncio says what becomes of tasks that nobody waits for.
                ("asyncio", "WARNING"),
                # It quotes bytes of broken forms.
                ("python_multipart", "CRITICAL"),
            )
        },
    }


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, process, message, and the fields of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        content: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        content |= getattr(record, FIELDS, {})
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time in UTC, in the form of RFC 3339."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"


OF_CLIENTS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
"""What uvicorn calls an error where a handshake was refused with an answer of our own, and where a
client broke the protocol; `auris.server.middleware` has a line with status and code for both."""


class WithoutWebSockets(logging.Filter):
    """Leaves out uvicorn's lines about WebSockets, which no option turns off: they hold addresses,
    or take what clients do for errors of the server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        said = str(record.msg)
        return '"WebSocket ' not in said and said not in OF_CLIENTS
