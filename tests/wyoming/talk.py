"""What a client of a Wyoming server does in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event, Eventable

T = TypeVar("T")

SECONDS = 30.0


def pcm(samples: np.ndarray, width: int = 2) -> bytes:
    """Samples [S] or [S, C] in -1..1 as interleaved integers."""
    if width == 1:
        return np.round(samples * 127 + 128).clip(0, 255).astype("u1").tobytes()
    scaled = np.round(samples.astype(np.float64) * (2 ** (8 * width - 1) - 256)).astype("<i4")
    return scaled.reshape(-1, 1).view("u1")[:, :width].tobytes()


class Client:
    """A connected client."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def send(self, *events: Eventable | Event) -> None:
        for event in events:
            await self.client.write_event(event if isinstance(event, Event) else event.event())

    async def speak(
        self, audio: bytes, block: int = 4096, rate: int = 16_000, width: int = 2, channels: int = 1
    ) -> None:
        """Send audio in blocks of so many bytes, with its beginning and without its end."""
        form = {"rate": rate, "width": width, "channels": channels}
        await self.send(AudioStart(**form))
        for first in range(0, len(audio), block):
            await self.send(AudioChunk(**form, audio=audio[first : first + block]))

    async def until(self, *kinds: str) -> list[Event]:
        """Events up to one of some kinds, or up to the end of the connection."""
        events: list[Event] = []
        while event := await asyncio.wait_for(self.client.read_event(), SECONDS):
            events.append(event)
            if event.type in kinds:
                break
        return events

    async def transcribe(self, audio: bytes, *, language: str | None = None, **form: int) -> str:
        """The text of some audio."""
        await self.send(Transcribe(language=language))
        await self.speak(audio, **form)
        await self.send(AudioStop())
        events = await self.until("transcript-stop", "error")
        assert events[-1].type == "transcript-stop", events[-1].data
        return Transcript.from_event(events[-2]).text

    async def error(self) -> Error:
        """The error that comes, after which the connection ends."""
        error = (await self.until("error"))[-1]
        assert error.type == "error", error
        assert await self.until() == []
        return Error.from_event(error)


def talk(uri: str, conversation: Callable[[Client], Awaitable[T]]) -> T:
    """Run a conversation with a server."""

    async def connected() -> T:
        async with AsyncClient.from_uri(uri) as client:
            return await conversation(Client(client))

    return asyncio.run(connected())
