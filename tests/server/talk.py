"""A minimal realtime client that sees every event as it was sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import soxr
from websockets.sync.client import ClientConnection, connect

from auris.audio.io import load
from tests.server.live import EXAMPLE

DONE = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
FAILED = "conversation.item.input_audio_transcription.failed"
PATH = "/v1/realtime?intent=transcription"

Event = dict[str, Any]


def spoken(repeats: int = 1, pause: float = 0.0, rate: int = 24_000) -> np.ndarray:
    """The example as int16 [S], repeated, each with a pause after it."""
    gap = np.zeros(round(pause * 16_000), np.float32)
    said = np.concatenate([p for _ in range(repeats) for p in (load(EXAMPLE).samples, gap)])
    return (np.clip(soxr.resample(said, 16_000, rate), -1, 1) * 32767).astype("<i2")


def audio(samples: np.ndarray) -> str:
    """Samples in the encoding of an append event."""
    return base64.b64encode(samples.tobytes()).decode()


class Talk:
    """A realtime connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def next(self) -> Event:
        return dict(json.loads(self.socket.recv(timeout=60)))

    def until(self, kind: str) -> list[Event]:
        """Events up to the first of a kind, that one included."""
        events = [self.next()]
        while events[-1]["type"] != kind:
            events.append(self.next())
        return events

    def ask(self, kind: str, **fields: Any) -> Event:
        """Send an event and return the event that answers it."""
        self.send(kind, **fields)
        return self.next()

    def update(self, include: tuple[str, ...] = (), **audio_input: Any) -> Event:
        session = {
            "type": "transcription",
            "include": list(include),
            "audio": {"input": audio_input},
        }
        return self.ask("session.update", session=session)

    def append(self, samples: np.ndarray, block: int = 2400) -> None:
        for first in range(0, len(samples), block):
            self.send("input_audio_buffer.append", audio=audio(samples[first : first + block]))

    def item(self, samples: np.ndarray, block: int = 2400) -> list[Event]:
        """Append audio, commit it, and return all events of its item."""
        self.append(samples, block)
        self.send("input_audio_buffer.commit")
        return self.until(DONE)


@contextmanager
def talk(url: str, place: str = PATH, manual: bool = True, **options: Any) -> Iterator[Talk]:
    """A session after its first event, by default without turn detection of the server."""
    with connect(url.replace("http", "ws", 1) + place, **options) as socket:
        connection = Talk(socket)
        assert connection.next()["type"].endswith("session.created")
        if manual:
            assert connection.update(turn_detection=None)["type"] == "session.updated"
        yield connection
