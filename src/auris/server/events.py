"""Transcripts as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from auris.errors import AurisError
from auris.server.calls import Call
from auris.server.errors import ClientDisconnected, as_api_error, server_stopping
from auris.server.pools import wait_for_disconnect
from auris.server.responses import TranscriptEvents
from auris.server.state import Server
from auris.types import Segment

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """The events of a call, sent when its segments are done; `stack` holds what the call needs."""

    media_type = "text/event-stream"

    def __init__(self, server: Server, call: Call, stack: AsyncExitStack) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._server = server
        self._call = call
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with self._stack:
            leaving = asyncio.create_task(wait_for_disconnect(receive))
            leaving.add_done_callback(lambda _: self._call.cancelled.set())
            try:
                await self._send_all(send)
            finally:
                leaving.cancel()

    async def _send_all(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[bytes | None] = asyncio.Queue()

        def put(event: dict[str, Any] | None) -> None:
            encoded = None if event is None else _encoded(event)
            loop.call_soon_threadsafe(events.put_nowait, encoded)

        async def send_body(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        work = asyncio.ensure_future(self._server.pools.calls.run(lambda: self._run(put)))
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            while (event := await events.get()) is not None:
                await send_body(event)
        except asyncio.CancelledError:
            # uvicorn cancels requests in progress when the time for stopping is over.
            await send_body(_encoded(server_stopping().body()))
        finally:
            self._call.cancelled.set()
            await asyncio.shield(work)
        await send_body(b"", more=False)

    def _run(self, put: Callable[[dict[str, Any] | None], None]) -> None:
        """Transcribe, in a thread; a failure is an event, too."""
        call = self._call
        events = TranscriptEvents(call.request, call.served.engine.recognizer)

        def report(segment: Segment) -> None:
            for event in events.of_segment(segment):
                put(event)

        try:
            for event in events.at_end(call.run(report)):
                put(event)
        except ClientDisconnected:
            pass
        except Exception as error:  # Any fault of the program: the client gets an event.
            put(as_api_error(error).body())
            if not isinstance(error, AurisError):
                raise
        finally:
            put(None)


def _encoded(event: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
