"""Whether a caller is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.types import Receive

from auris.server.calls import ClientDisconnected

__all__ = ["unless_left", "until_left"]

T = TypeVar("T")


async def until_left(receive: Receive) -> None:
    """Wait until the caller closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(
    receive: Receive, work: asyncio.Future[T], cancel: Callable[[], None] = lambda: None
) -> T:
    """The result of work beside the event loop, which is given up when its caller leaves.

    Args:
        receive: the caller's connection, of which all has been read.
        work: cancelled when the caller leaves, so that it does not begin.
        cancel: called when the result is not waited for any more, so that work under way ends.

    Raises:
        ClientDisconnected: the caller left before.
    """
    # What goes wrong when nobody waits any more is no concern of the event loop.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    leaving = asyncio.ensure_future(until_left(receive))
    either: set[asyncio.Future[Any]] = {work, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnected
    finally:
        leaving.cancel()
        if not work.done():
            cancel()
            work.cancel()
