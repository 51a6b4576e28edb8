"""One connection of a client: the events that it sends, and their answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.ping import Pong

from auris.errors import AurisError
from auris.wyoming.events import (
    EventReader,
    WyomingError,
    as_wyoming_error,
    audio_bytes,
    audio_format,
    invalid_event,
    read_event,
    text_field,
    texts_field,
)
from auris.wyoming.service import Service
from auris.wyoming.transcription import Transcription, WyomingRequest

CLOSE_SECONDS = 2.0
"""How long a client may go on sending after an error. If the connection were closed before, the
client would fail to send, and would not read the error."""

READ_BYTES = 1 << 16

_LOG = logging.getLogger(__name__)


class Connection:
    """A client's connection, from its beginning to its end."""

    def __init__(self, service: Service, reader: EventReader, writer: asyncio.StreamWriter) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._request = WyomingRequest(service.pick(None))
        self._open: Transcription | None = None
        self._handlers: dict[str, Callable[[Event], Awaitable[None]]] = {
            "describe": self._describe,
            "ping": self._pong,
            "transcribe": self._transcribe,
            "audio-start": self._start,
            "audio-chunk": self._add,
            "audio-stop": self._stop,
        }

    async def run(self) -> None:
        """Answer events until the client disconnects, an error occurs or the server stops."""
        stopping = asyncio.ensure_future(self._service.stopping.wait())
        try:
            while (event := await self._next(stopping)) is not None:
                # Events of other kinds are ignored, as the protocol requires.
                if handler := self._handlers.get(event.type):
                    await handler(event)
        except Exception as error:  # Of any kind: the client learns that there is no text.
            try:
                await self._close()  # Another client can use the stream meanwhile.
            finally:
                await self._end_with(error)
        finally:
            stopping.cancel()
            await self._close()
            self._writer.close()

    async def _next(self, stopping: asyncio.Future[Any]) -> Event | None:
        """The next event; None at the end of the connection."""
        reading: asyncio.Future[Any] = asyncio.ensure_future(read_event(self._reader))
        idle = self._service.limits.idle_seconds
        try:
            if not stopping.done():
                await asyncio.wait(
                    {reading, stopping}, timeout=idle, return_when=asyncio.FIRST_COMPLETED
                )
            if reading.done() and not stopping.done():
                event: Event | None = reading.result()
                return event
        finally:
            reading.cancel()
            await asyncio.wait({reading})  # A stream has one reader at a time.
        if not stopping.done():
            raise WyomingError(f"The client sent nothing for {idle:g} s.", "idle")
        if self._open is None:
            return None
        raise WyomingError("The server is stopping: send the audio again.", "server_stopping")

    async def _end_with(self, error: Exception) -> None:
        """Send an error, if the client can still read it."""
        if isinstance(error, (ConnectionError, asyncio.TimeoutError)):
            return  # The client has disconnected, or reads nothing.
        if isinstance(error, AurisError):
            error = as_wyoming_error(error)
        elif not isinstance(error, WyomingError):
            _LOG.error("a Wyoming connection failed", exc_info=error)
            error = WyomingError("The program failed.", "failed")
        _LOG.info("a client gets the error %s: %s", error.code, error.text)
        with suppress(OSError, asyncio.TimeoutError):
            await self._send([Error(error.text, error.code).event()])
            self._writer.write_eof()
            await asyncio.wait_for(self._read_to_end(), CLOSE_SECONDS)

    async def _read_to_end(self) -> None:
        while await self._reader.read(READ_BYTES):
            pass

    async def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            writing = async_write_event(event, self._writer)
            await asyncio.wait_for(writing, self._service.limits.idle_seconds)

    async def _describe(self, event: Event) -> None:
        await self._send([self._service.describe().event()])

    async def _pong(self, event: Event) -> None:
        await self._send([Pong(text_field(event, "text")).event()])

    async def _transcribe(self, event: Event) -> None:
        if self._open is not None:
            raise invalid_event("transcribe has to come before audio-start")
        names = texts_field(event, "transcript_names") + texts_field(event, "transcript_terms")
        self._request = WyomingRequest(
            self._service.pick(text_field(event, "name")),
            without_region(text_field(event, "language")),
            tuple(dict.fromkeys(name for name in names if name.strip())),
        )

    async def _start(self, event: Event) -> None:
        if self._open is not None:
            raise invalid_event("audio-start came before the audio-stop of the audio before")
        form, limit = audio_format(event), self._service.limits.streams
        if self._service.active >= limit:
            text = f"All {limit} transcriptions of this server are in use: try again."
            raise WyomingError(text, "busy")
        self._service.active += 1
        try:
            self._open = await Transcription.begin(self._request, form)
        except BaseException:
            self._service.active -= 1
            raise

    async def _add(self, event: Event) -> None:
        if self._open is None:
            await self._start(event)  # Some clients leave audio-start out.
        assert self._open is not None
        data = audio_bytes(event, self._open.form)
        await self._send(await self._open.add(data))
        limit = self._service.limits.audio_seconds
        if self._open.seconds > limit:
            text = f"The audio of a transcription may last {limit:g} s: send audio-stop before."
            raise WyomingError(text, "audio_too_long")

    async def _stop(self, event: Event) -> None:
        if self._open is None:
            raise invalid_event("audio-stop came without audio-start")
        events = await self._open.finish()
        await self._close()  # Others can use the stream before the client has read the text.
        await self._send(events)
        self._request = WyomingRequest(self._service.pick(None))

    async def _close(self) -> None:
        """End the open transcription, whatever it has reached."""
        transcription, self._open = self._open, None
        if transcription is not None:
            try:
                await transcription.close()
            finally:
                self._service.active -= 1


def without_region(language: str | None) -> str | None:
    """The language of a code such as en-US or pt_BR."""
    return language and language.replace("_", "-").partition("-")[0]
