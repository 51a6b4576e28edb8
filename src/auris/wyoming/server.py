"""Listening for Wyoming clients, and stopping at a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from logging.config import dictConfig
from pathlib import Path
from urllib.parse import urlsplit

from auris.errors import UsageError
from auris.server.log import log_config
from auris.wyoming.connection import Connection
from auris.wyoming.events import EventReader
from auris.wyoming.service import Limits, Service, WyomingModel

MOST_CONNECTIONS = 256
"""Connections of a server; further ones are closed at once."""

ACCEPT_ITERATIONS = 3
"""Iterations of the event loop from the one that accepts a connection to the one that serves it."""

_LOG = logging.getLogger(__name__)


class Address:
    """Where a server listens: a port, or a socket of the file system.

    Raises:
        UsageError: the URI is neither.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            parts = urlsplit(uri)
            self.host, self.port = parts.hostname or "", parts.port
        except ValueError:
            raise self._wrong() from None
        self.path = Path(parts.path) if parts.scheme == "unix" and parts.path else None
        if self.path is None and not (
            parts.scheme == "tcp" and self.host and self.port is not None
        ):
            raise self._wrong()

    async def listen(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """A server at the address; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        try:
            if self.path is not None:
                return await loop.create_unix_server(protocol, self.path)
            return await loop.create_server(protocol, self.host, self.port)
        except OSError as error:
            raise UsageError(
                f"The server cannot listen at {self.uri} ({error.strerror or error})",
                "",
                "choose another --uri, or end what listens there",
            ) from None

    def shown(self, server: asyncio.Server) -> str:
        """The URI, with the number of the port that was taken."""
        if self.path is not None:
            return self.uri
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{server.sockets[0].getsockname()[1]}"

    def _wrong(self) -> UsageError:
        return UsageError(
            "--uri has to be tcp://HOST:PORT or unix:///PATH",
            f"it is {self.uri!r}",
            "correct it, for example tcp://127.0.0.1:10300",
        )


class WyomingServer:
    """A server of some models. Make it in the event loop that runs it."""

    def __init__(self, models: Iterable[WyomingModel], limits: Limits) -> None:
        self.service = Service(list(models), limits)
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, address: Address, ready: Callable[[str], None]) -> None:
        """Serve until `stop` is called.

        Args:
            ready: called with the URI once clients can connect.

        Raises:
            UsageError: the address is taken, or it is none of this machine's.
        """
        server = await address.listen(self._protocol)
        ready(address.shown(server))
        await self.service.stopping.wait()
        await _stop_accepting(server)
        if self._connections:
            limit = self.service.limits.stop_seconds
            _, late = await asyncio.wait(self._connections, timeout=limit)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if address.path is not None:
            address.path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Take no more audio; transcriptions whose audio is complete are finished."""
        self.service.stopping.set()

    def _protocol(self) -> asyncio.Protocol:
        reader = EventReader()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._connections) >= MOST_CONNECTIONS:
                _LOG.warning("a client was refused: all connections are in use")
                writer.transport.abort()
                return
            connection = Connection(self.service, reader, writer)
            task = asyncio.ensure_future(connection.run())
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        return asyncio.StreamReaderProtocol(reader, connected)


async def _stop_accepting(server: asyncio.Server) -> None:
    """Close the sockets of a server. asyncio loses a connection that it has accepted, and leaves
    it open, if the server is closed before the connection has begun."""
    loop = asyncio.get_running_loop()
    try:
        with suppress(NotImplementedError):  # Of Windows, where this is not needed.
            for listening in server.sockets:
                loop.remove_reader(listening)
        for _ in range(ACCEPT_ITERATIONS):
            await asyncio.sleep(0)
    finally:
        server.close()


def run(
    models: Iterable[WyomingModel], limits: Limits, address: Address, log_format: str = "text"
) -> None:
    """Serve until SIGTERM or SIGINT, with a log in one of the formats of `auris.server.log`.

    Raises:
        UsageError: see `WyomingServer.serve`.
    """
    dictConfig(log_config(log_format))
    asyncio.run(_run(models, limits, address))


async def _run(models: Iterable[WyomingModel], limits: Limits, address: Address) -> None:
    server = WyomingServer(models, limits)
    with _stopped_by_signals(server):
        await server.serve(address, lambda uri: _LOG.info("Wyoming server at %s", uri))
    _LOG.info("The Wyoming server has stopped")


@contextmanager
def _stopped_by_signals(server: WyomingServer) -> Iterator[None]:
    """Inside the block, SIGTERM and SIGINT stop the server."""
    loop = asyncio.get_running_loop()
    before = {
        kind: signal.signal(kind, lambda *_: loop.call_soon_threadsafe(server.stop))
        for kind in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for kind, handler in before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(kind, handler or signal.SIG_DFL)
