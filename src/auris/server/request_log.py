"""Lines of the log about requests and WebSockets: who called what, the status, and the reason."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.types import Message, Scope

from auris.server.log import FIELDS
from auris.server.metrics import Metrics

__all__ = ["LoggedRequest", "note_reason"]

REQUEST_ID = "x-request-id"
"""Header with the identifier of a request, which the server returns; clients may choose it."""

SWITCHED = 101
"""Status of a request that became a WebSocket."""

STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
"""Messages that have the headers of an answer."""

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_LOG = logging.getLogger("auris.access")


def note_reason(scope: Scope, reason: str | None) -> None:
    """Name the reason of a failure for the log: a code of the API's errors."""
    scope.setdefault("state", {})["reason"] = reason


class LoggedRequest:
    """A request or WebSocket that is counted and has a line in the log at its end.

    Args:
        scope: of the request.
        metrics: where it is counted.
    """

    def __init__(self, scope: Scope, metrics: Metrics) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.id = given if VALID_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        self.status = 0
        self._scope = scope
        self._metrics = metrics
        self._code = 0  # That closed a WebSocket.
        self._began = time.perf_counter()
        scope.setdefault("state", {})["request_id"] = self.id

    def received(self, message: Message) -> Message:
        """Notice a message of the client."""
        if message["type"] == "websocket.disconnect":
            self._code = self._code or message.get("code", 0)
        return message

    def sent(self, message: Message) -> Message:
        """Notice a message to the client, and add the identifier to its headers."""
        if message["type"] == "websocket.close":
            self._code = message["code"]
        if message["type"] not in STARTS:
            return message
        self.status = message.get("status", SWITCHED)
        header = (REQUEST_ID.encode(), self.id.encode())
        return {**message, "headers": [*message.get("headers", ()), header]}

    def ended(self) -> None:
        """Count the request, unless it became a WebSocket, and write its line."""
        seconds = time.perf_counter() - self._began
        socket = self._scope["type"] == "websocket"
        method = self._scope.get("method", "GET")
        status = self.status or (0 if socket else 500)
        # The pattern of the route: a path could contain anything.
        route = getattr(self._scope.get("route"), "path", "other")
        if status != SWITCHED:
            self._metrics.count_request(method, route, status, seconds)
        fields = {
            "method": "WEBSOCKET" if socket else method,
            "route": route,
            "status": status,
            "code": self._code if socket else None,
            "seconds": round(seconds, 3),
            "client": (self._scope.get("client") or ("unknown",))[0],
            "request_id": self.id,
            "reason": self._scope["state"].get("reason"),
        }
        shown = {**fields, "seconds": f"{seconds:.3f} s"}.values()
        words = [str(value) for value in shown if value is not None]
        _LOG.info("%s", " ".join(words), extra={FIELDS: fields})
