"""What the server logs. Worker processes import this before anything else, so it imports little."""

from __future__ import annotations

import json
import logging
import time
from contextvars import ContextVar
from typing import Any

FORMATS = ("text", "json")

FIELDS = "fields"
"""Attribute of a record with further fields of its JSON form."""

PRESENT_REQUEST: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The identifier of the request that is being answered, also in the threads that work on it."""

LEVELS = {
    "auris": "INFO",
    "uvicorn": "INFO",
    "uvicorn.error": "INFO",
    # asyncio reports failures of tasks that nobody waits for.
    "asyncio": "WARNING",
    # It quotes bytes of broken forms.
    "python_multipart": "CRITICAL",
}
"""uvicorn's own log of requests is off, since it writes complete addresses."""


def log_config(form: str) -> dict[str, Any]:
    """The configuration of all loggers, in one of `FORMATS`."""
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
            for name, level in LEVELS.items()
        },
    }


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, process, message, request, and the fields of its end."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line, with its time in UTC in the form of RFC 3339."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **({} if (request := PRESENT_REQUEST.get()) is None else {"request_id": request}),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


OF_CLIENTS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
"""Errors in uvicorn's log where a handshake was refused with an answer of our own, and where a
client broke the protocol; `auris.server.middleware` has a line with status and code for both."""


class WithoutWebSockets(logging.Filter):
    """Leaves out uvicorn's lines about WebSockets, which no option turns off: they contain
    addresses, or show faults of clients as errors of the server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        text = str(record.msg)
        return '"WebSocket ' not in text and text not in OF_CLIENTS
