"""What the server logs. Worker processes load this before anything else, so it loads little."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["LOGS", "WithoutAddresses"]

LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "filters": {"without_addresses": {"()": "auris.server.log.WithoutAddresses"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["without_addresses"],
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


class WithoutAddresses(logging.Filter):
    """Leaves out uvicorn's lines about WebSockets, which no option turns off."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        return '"WebSocket ' not in str(record.msg)
