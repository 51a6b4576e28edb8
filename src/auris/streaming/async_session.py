"""Live speech beside an event loop: the same streams, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from numpy.typing import NDArray

from auris.streaming.session import StreamSession, StreamUpdate

__all__ = ["AsyncStreamSession"]


class AsyncStreamSession:
    """A `StreamSession` whose work is done in the thread of its pool.

    While that thread is busy, what is fed to other streams of the pool gathers, and is then
    computed together. Awaiting `feed` holds a fast source back.

    Args:
        session: the stream, not to be used otherwise any more.
    """

    def __init__(self, session: StreamSession) -> None:
        self._session = session

    async def feed(self, samples: NDArray[Any], rate: int | None = None) -> list[StreamUpdate]:
        """See `StreamSession.feed`."""
        self._session.push(samples, rate)
        return await self._worked()

    async def finish(self) -> list[StreamUpdate]:
        """See `StreamSession.finish`."""
        self._session.push_end()
        return await self._worked()

    async def listen(self, source: AsyncIterable[NDArray[Any]]) -> AsyncIterator[StreamUpdate]:
        """Feed all that comes from a source, then finish; yields the updates as they are made."""
        async for samples in source:
            for update in await self.feed(samples):
                yield update
        for update in await self.finish():
            yield update

    async def close(self) -> None:
        """See `StreamSession.close`."""
        await self._beside(self._session.close)

    async def __aenter__(self) -> AsyncStreamSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _worked(self) -> list[StreamUpdate]:
        await self._beside(self._session.pool.work)
        return self._session.updates()

    async def _beside(self, job: Callable[[], None]) -> None:
        await asyncio.wrap_future(self._session.pool.submit(job))
