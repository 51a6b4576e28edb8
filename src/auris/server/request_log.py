"""Lines of the log about requests and WebSockets: who called what, what came of it, and why."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.types import Message, Scope

from auris.server.log import FIELDS
from auris.server.metrics import Metrics

__all__ = ["REQUEST_ID", "LoggedConnection", "LoggedRequest", "note_reason"]

REQUEST_ID = "x-request-id"
"""Header with the name of a request, which the server returns; callers may choose it."""

SWITCHED = 101
"""Status of a request that became a WebSocket."""

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_LOG = logging.getLogger("auris.access")


def note_reason(scope: Scope, reason: str | None) -> None:
    """Say in the log why a request was not answered as it was meant: a code of the API's."""
    scope.setdefault("state", {})["reason"] = reason


class _Logged:
    """What a request and a WebSocket have in common.

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
        self._began = time.perf_counter()
        scope.setdefault("state", {})["request_id"] = self.id

    def _named(self, message: Message) -> Message:
        """The beginning of a response, with the request's name."""
        named = (REQUEST_ID.encode(), self.id.encode())
        return {**message, "headers": [*message.get("headers", ()), named]}

    def _end(self, method: str, status: int, code: int | None = None) -> None:
        """Count the request, unless it became a WebSocket, and write its line."""
        seconds = time.perf_counter() - self._began
        # The route's pattern: a path itself could name anything.
        route = getattr(self._scope.get("route"), "path", "other")
        client = (self._scope.get("client") or ("unknown",))[0]
        reason = self._scope["state"].get("reason")
        if status != SWITCHED:
            self._metrics.count_request(self._scope.get("method", "GET"), route, status, seconds)
        outcome = [method, route, status, *([] if code is None else [code])]
        words = [*outcome, f"{seconds:.3f} s", client, self.id, *([reason] if reason else [])]
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "code": code,
            "seconds": round(seconds, 3),
            "client": client,
            "request_id": self.id,
            "reason": reason,
        }
        _LOG.info("%s", " ".join(map(str, words)), extra={FIELDS: fields})


class LoggedRequest(_Logged):
    """A request that is counted and has a line in the log at its end."""

    def sent(self, message: Message) -> Message:
        """Notice a message to the caller."""
        if message["type"] != "http.response.start":
            return message
        self.status = message["status"]
        return self._named(message)

    def ended(self) -> None:
        """Count it, and write its line."""
        self._end(self._scope["method"], self.status or 500)


class LoggedConnection(_Logged):
    """A WebSocket that has a line in the log at its end, with the code that ended it."""

    def __init__(self, scope: Scope, metrics: Metrics) -> None:
        super().__init__(scope, metrics)
        self._code = 0

    def received(self, message: Message) -> Message:
        """Notice a message of the client's."""
        if message["type"] == "websocket.disconnect":
            self._code = self._code or message.get("code", 0)
        return message

    def sent(self, message: Message) -> Message:
        """Notice a message to the client."""
        if message["type"] == "websocket.accept":
            self.status = SWITCHED
            return self._named(message)
        if message["type"] == "websocket.http.response.start":
            self.status = message["status"]
            return self._named(message)
        if message["type"] == "websocket.close":
            self._code = message["code"]
        return message

    def ended(self) -> None:
        """Count it where it was refused, and write its line."""
        self._end("WEBSOCKET", self.status, self._code)
