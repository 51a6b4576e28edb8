"""A Wyoming server in a thread of the test's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from auris import AsrPipeline
from auris.wyoming.server import Address, WyomingServer
from auris.wyoming.service import Limits, WyomingModel


@dataclass(frozen=True)
class Running:
    """A running server, and a function that stops it."""

    uri: str
    server: WyomingServer
    loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.stop)


@contextmanager
def running(
    *pipelines: AsrPipeline, uri: str = "tcp://127.0.0.1:0", limits: Limits | None = None
) -> Iterator[Running]:
    """A server of some models until the end of the block."""
    limits = limits or Limits(streams=4)
    models = [WyomingModel.of(pipeline, limits.streams) for pipeline in pipelines]
    started: Future[Running] = Future()

    async def serve() -> None:
        server = WyomingServer(models, limits)
        loop = asyncio.get_running_loop()
        try:
            await server.serve(
                Address(uri), lambda uri: started.set_result(Running(uri, server, loop))
            )
        except BaseException as error:
            started.set_exception(error)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    found = started.result(30)
    try:
        yield found
    finally:
        with suppress(RuntimeError):  # It has ended already, and its loop is closed.
            found.stop()
        thread.join(30)
        assert not thread.is_alive()
