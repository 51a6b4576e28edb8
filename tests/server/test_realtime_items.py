"""An item of a realtime session and the stream that recognizes it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

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
