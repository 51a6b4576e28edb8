"""HTTP and WebSocket connections with time limits and a limit of their number."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEADER_SECONDS = 10.0
"""Longest time from the beginning of a connection, or of a later request, to the end of the header
of the request, even if parts of it keep arriving."""

WRITE_SECONDS = 60.0
"""Longest time in which a client reads nothing of an answer that exceeds its buffers."""

BACKLOG = 128
"""Connections that the system holds until they are accepted; asyncio accepts as many at once."""

MOST_FILES = 8192
"""Largest limit of open files that is used."""

RESERVED_FILES = 128
"""Open files that are reserved for anything but connections and requests."""

ACCEPT_ERRORS_SECONDS = 10.0
"""Time between lines of the log about connections that could not be accepted."""

_LOG = logging.getLogger(__name__)


def most_connections() -> int:
    """How many connections may be open, by the process's limit of open files, which is raised.

    A connection may need two more files while its request is worked on, and as many as the backlog
    can be accepted before any of them is looked at.
    """
    if sys.platform == "win32":
        return 500
    import resource

    def bounded(limit: int) -> int:
        return MOST_FILES if limit == resource.RLIM_INFINITY else min(limit, MOST_FILES)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if bounded(soft) < bounded(hard):
        soft = bounded(hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, (bounded(soft) - RESERVED_FILES - 2 * BACKLOG) // 3)


class _WriteTimeout(asyncio.Protocol):
    """A protocol that ends the connection of a client that reads nothing."""

    transport: asyncio.Transport
    _cut_off: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_timer()
        loop = asyncio.get_running_loop()
        self._cut_off = loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None


class GuardedHttp(_WriteTimeout, H11Protocol):
    """An HTTP connection with a limit for the time in which no request is in progress.

    uvicorn's own limit is for the time after an answer, and ends with the first byte of the next
    request. Where there are as many connections as `limit_concurrency` allows, a new one ends the
    one that has been without a request for longest. Where there is none, its request is refused.
    """

    waiting_since: float | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first request has to come soon."""
        super().connection_made(transport)
        _limit_unread_data(transport)
        self._await_request()
        most, self.limit_concurrency = self.limit_concurrency, None
        if most is None or len(self.connections) < most:
            return
        waiting = [
            (other.waiting_since, other)
            for other in self.connections - {self}
            if isinstance(other, GuardedHttp) and other.waiting_since is not None
        ]
        if not waiting:
            self.app = _refuse
            return
        _, oldest = min(waiting, key=lambda pair: pair[0])
        oldest.waiting_since = None
        oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read some of a request; bytes between two requests do not extend the deadline."""
        super().data_received(data)
        self._update_deadline()

    def on_response_complete(self) -> None:
        """A request has ended; the next one has to come soon."""
        super().on_response_complete()
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; the limit no longer counts."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _update_deadline(self) -> None:
        became_websocket = self.transport.get_protocol() is not self
        in_progress = self.cycle is not None and not self.cycle.response_complete
        if became_websocket or in_progress:
            self._stop_waiting()
        elif self._deadline is None and not self.transport.is_closing():
            self._await_request()

    def _await_request(self) -> None:
        self.waiting_since = time.monotonic()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        self.waiting_since = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class GuardedWebSocket(_WriteTimeout, WebSocketsSansIOProtocol):
    """A WebSocket with a time limit for reading what is sent."""


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a connection beyond the limit."""
    # A worker process imports this module before it can answer that it lives.
    from auris.server.errors import ApiError

    _LOG.warning("a request was refused: all connections are busy")
    message = "All connections of the server are busy: try again."
    error = ApiError(503, message, code="server_busy", headers={"Connection": "close"})
    await error.response()(scope, receive, send)


def _limit_unread_data(transport: asyncio.Transport) -> None:
    """Let the system end a connection whose client does not acknowledge the last data."""
    connection = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if connection is not None and option is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, option, round(1000 * WRITE_SECONDS))


class _AcceptErrors:
    """Logs connections that could not be accepted, one line for many of them."""

    def __init__(self) -> None:
        self._count = 0
        self._next = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and "accept" in context.get("message", "")):
            loop.default_exception_handler(context)
            return
        self._count += 1
        now = time.monotonic()
        if now >= self._next:
            _LOG.error(
                "connections could not be accepted (%s, %d times): raise the limit of open files",
                error.strerror,
                self._count,
            )
            self._count, self._next = 0, now + ACCEPT_ERRORS_SECONDS


def quiet_accept_errors() -> None:
    """Log at most a line every `ACCEPT_ERRORS_SECONDS` where the running loop cannot accept."""
    asyncio.get_running_loop().set_exception_handler(_AcceptErrors())
