"""Recordings of calls, read to their end: short ones do not wait for longer ones."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from typing import IO

from starlette.requests import Request

from auris.server.engine_queue import SHORT_SECONDS
from auris.server.errors import ApiError
from auris.server.pools import Lane
from auris.server.presence import unless_left
from auris.server.settings import Settings
from auris.server.state import Server
from auris.server.upload_validation import TOO_LONG, ClientDisconnected, Recording, measured

__all__ = ["measure"]

SHORT_BYTES = 16 << 20
"""Largest file that may be short: a minute of 24 bits, 48 kHz and two channels is as large."""

SHORT_READ_SECONDS = 10.0
"""Time after which a recording that is still being read is none of the short ones."""


@dataclass
class _Patience:
    """Says that reading is to end: its caller left, or it takes too long for its lane.

    Attributes:
        seconds: that it may take.
        left: set when the caller leaves.
    """

    seconds: float
    left: threading.Event = field(default_factory=threading.Event)
    _until: float | None = None

    def begin(self) -> None:
        """Reading begins."""
        self._until = time.monotonic() + self.seconds

    def is_set(self) -> bool:
        """Whether it is to end."""
        late = self._until is not None and time.monotonic() > self._until
        return late or self.left.is_set()


async def measure(
    request: Request, file: IO[bytes], apart: bool, held: AsyncExitStack
) -> Recording:
    """A recording that has been read to its end.

    Whether it is short is known when it has been read: the lane of short ones gives up what turns
    out to be longer, larger or slower, and the lane of longer ones begins anew.

    Args:
        request: whose recording it is.
        file: encoded audio.
        apart: whether its channels are transcribed each by itself.
        held: closes what the recording needs.

    Raises:
        AudioError, ApiError: as of `measured`.
        ClientDisconnected: the caller left before.
    """
    server: Server = request.app.state.server
    files = held.enter_context(ExitStack())

    async def read(lane: Lane, settings: Settings, seconds: float) -> Recording:
        patience = _Patience(seconds)

        def work() -> Recording:
            patience.begin()
            return measured(file, settings, apart, server.decoders, files, patience)

        reading = asyncio.wrap_future(lane.submit(work))
        return await unless_left(request.receive, reading, patience.left.set)

    settings = server.settings
    most = settings.most_audio_seconds
    if file.seek(0, os.SEEK_END) <= SHORT_BYTES:
        short = replace(settings, most_audio_seconds=min(SHORT_SECONDS, most))
        try:
            return await read(server.pools.short, short, SHORT_READ_SECONDS)
        except ApiError as error:
            if error.code != TOO_LONG or most <= SHORT_SECONDS:
                raise
        except ClientDisconnected:
            if await request.is_disconnected():
                raise
    return await read(server.pools.long, settings, float("inf"))
