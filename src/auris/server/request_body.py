"""The body of a request: up to a limit, and not too slowly."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive

from auris.server.errors import ApiError

__all__ = ["RequestBody"]

DRAINED = 1 << 20
"""Bytes of a refused request that are read."""

SILENT_SECONDS = 30.0
"""Longest wait for more of a request."""

SLOWEST_BYTES = 4096
"""Bytes a second, on average after the first `SILENT_SECONDS`, that a client has to send."""


class RequestBody:
    """The body of a request.

    Args:
        receive: the connection.
        most_bytes: its largest size.
    """

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self._receive = receive
        self._most = most_bytes
        self._received = 0
        self._waited = 0.0
        self._more = True

    def check_length(self, length: str | None) -> None:
        """Refuse a body whose Content-Length is too large."""
        if length is not None and length.isdecimal():
            self._check_size(int(length))

    async def receive(self) -> Message:
        """The next part; after the last one, the end of the connection."""
        if not self._more:
            return await self._receive()
        # Only time in which the server waits for the client counts.
        left = SILENT_SECONDS + self._received / SLOWEST_BYTES - self._waited
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), min(left, SILENT_SECONDS))
        except (TimeoutError, asyncio.TimeoutError):
            fault = f"Nothing of the request came for {SILENT_SECONDS:g} s."
            if left < SILENT_SECONDS:
                fault = f"The request came more slowly than {SLOWEST_BYTES} bytes a second."
            raise ApiError(408, fault, code="timeout") from None
        self._waited += time.monotonic() - began
        if message["type"] == "http.request":
            self._count(message)
            self._check_size(self._received)
        return message

    async def drain(self) -> None:
        """Read the beginning of a body that is not used."""
        while self._more and self._received < DRAINED:
            self._count(await self._receive())

    def _count(self, message: Message) -> None:
        self._more = message.get("more_body", False)
        self._received += len(message.get("body", b""))

    def _check_size(self, size: int) -> None:
        if size > self._most:
            fault = f"The request is larger than {self._most} bytes, the most that this server"
            raise ApiError(413, f"{fault} takes.", code="request_too_large")
