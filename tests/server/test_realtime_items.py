"""An item of a realtime session and the stream that recognizes it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

from auris.errors import EngineError
from auris.server.realtime.config import Session
from auris.server.realtime.items import Item


class Stream:
    """A stream that has recognized all of its samples at once."""

    behind, seconds = False, 0.0

    def __init__(self) -> None:
        self.notify: Any = None
        self.driven = 0

    def push(self, samples: np.ndarray) -> None:
        """Take samples."""

    def push_end(self) -> None:
        """Take the end."""

    def updates(self) -> list[Any]:
        return []

    def drive(self, stream: Stream) -> None:
        self.driven += 1
        self.notify()


def test_an_item_without_new_audio_does_nothing() -> None:
    """A notice of its stream is no reason for another round of the pool."""
    stream = Stream()

    async def send(*_: Any) -> None:
        """There is no client."""

    async def run() -> None:
        served: Any = SimpleNamespace(pool=stream)
        item = Item(Session.of_model("tiny"), served, True, 0.0, send, lambda _: None)
        task = asyncio.create_task(item._push_audio(stream))
        for rounds in (1, 2):
            item.append(np.zeros(2400, np.int16))
            for _ in range(20):
                await asyncio.sleep(0)
            assert stream.driven == rounds
        item.end()
        await task
        assert stream.driven == 3

    asyncio.run(run())


class FailingItem(Item):
    """An item whose stream fails with audio that is not recognized."""

    async def _recognize(self) -> None:
        self._take()
        raise EngineError("The stream has failed", "", "")


def test_audio_of_an_item_that_fails_does_not_wait_any_more() -> None:
    """A session with too much waiting audio reads no message, also not the end of the item."""
    sent: list[Any] = []
    done: list[float] = []

    async def send(*events: Any) -> None:
        sent.extend(events)

    async def run() -> None:
        item = FailingItem(
            Session.of_model("tiny"), SimpleNamespace(), True, 0.0, send, done.append
        )
        item.append(np.zeros(2400, np.int16))
        task = asyncio.create_task(item.transcribe())
        for seconds in (0.1, 0.2):
            for _ in range(20):
                await asyncio.sleep(0)
            assert sum(done) == seconds
            item.append(np.zeros(2400, np.int16))
        item.end()
        await task
        assert abs(sum(done) - 0.3) < 1e-9
        assert [event["type"].rpartition(".")[2] for event in sent] == ["failed"]

    asyncio.run(run())
