"""The body of a request, as its sender sends it: up to a limit, and not too slowly."""

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
"""Bytes a second, on average behind the first `SILENT_SECONDS`, that a sender has to send."""


class RequestBody:
    """The body of a request.

    Args:
        receive: the connection.
        most: bytes of the largest one.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._taken = 0
        self._waited = 0.0
        self._more = True

    def announced(self, length: str | None) -> None:
        """Refuse what says that it is too long."""
        if length is not None and length.isdecimal() and int(length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part; behind the last one, the end of the connection."""
        if not self._more:
            return await self._receive()
        # Only time in which the server waits for the sender counts.
        left = SILENT_SECONDS + self._taken / SLOWEST_BYTES - self._waited
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), min(left, SILENT_SECONDS))
        except (TimeoutError, asyncio.TimeoutError):
            raise self._too_slow(left) from None
        self._waited += time.monotonic() - began
        if message["type"] == "http.request":
            self._more = message.get("more_body", False)
            self._taken += len(message.get("body", b""))
            if self._taken > self._most:
                raise self._too_large()
        return message

    async def drain(self) -> None:
        """Read a little of what is not wanted."""
        while self._more and self._taken < DRAINED:
            message = await self._receive()
            self._more = message.get("more_body", False)
            self._taken += len(message.get("body", b""))

    def _too_slow(self, left: float) -> ApiError:
        found = f"Nothing of the request came for {SILENT_SECONDS:g} s."
        if left < SILENT_SECONDS:
            found = f"The request came more slowly than {SLOWEST_BYTES} bytes a second."
        return ApiError(408, found, code="timeout")

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"The request is larger than {self._most} bytes, the most that this server takes.",
            code="request_too_large",
        )
