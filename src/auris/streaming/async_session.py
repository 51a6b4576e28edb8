"""Live streams for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from numpy.typing import NDArray

from auris.streaming.session import StreamSession, StreamUpdate
from auris.types import Transcript


class AsyncStreamSession:
    """A `StreamSession` for asyncio, whose work is done in the thread of its pool.

    Samples that other streams of the pool receive while the thread is busy are computed together
    afterwards. `feed` returns when its steps are done, which slows down a fast source. The wrapped
    session must not be used directly.
    """

    def __init__(self, session: StreamSession) -> None:
        self._session = session

    async def feed(self, samples: NDArray[Any], rate: int | None = None) -> list[StreamUpdate]:
        """Add samples and do the steps that are due, as `StreamSession.feed` does."""
        self._session.push(samples, rate)
        return await self._work()

    async def finish(self) -> list[StreamUpdate]:
        """Recognize the rest and end the stream."""
        self._session.push_end()
        return await self._work()

    async def transcript(self) -> Transcript:
        """The transcript of a finished stream with speakers, see `StreamSession.transcript`."""
        return await asyncio.to_thread(self._session.transcript)

    async def listen(self, source: AsyncIterable[NDArray[Any]]) -> AsyncIterator[StreamUpdate]:
        """Feed all blocks of a source, then finish; yields the updates as they are made."""
        async for samples in source:
            for update in await self.feed(samples):
                yield update
        for update in await self.finish():
            yield update

    async def close(self) -> None:
        """End the stream without recognizing the rest."""
        await self._in_pool_thread(self._session.close)

    async def __aenter__(self) -> AsyncStreamSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _work(self) -> list[StreamUpdate]:
        await self._in_pool_thread(self._session.pool.work)
        return self._session.updates()

    async def _in_pool_thread(self, job: Callable[[], None]) -> None:
        await asyncio.wrap_future(self._session.pool.submit(job))
