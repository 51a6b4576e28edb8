"""A realtime session: what a client sends is heard, cut into items, and answered with events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.errors import AurisError
from auris.server.calls import check_options
from auris.server.errors import ApiError, as_api_error
from auris.server.model_registry import ModelRegistry, ServedModel
from auris.server.realtime.config import NEWER, OLDER, SessionConfig
from auris.server.realtime.formats import decoded
from auris.server.realtime.items import Item, Transcription
from auris.server.realtime.messages import client_event, error_event, identifier, server_event
from auris.server.realtime.turns import SpeechStarted, Spoken, TurnCutter

__all__ = ["RealtimeSession"]

Pcm = NDArray[np.int16]
Send = Callable[[str], Awaitable[None]]

BACKLOG_SECONDS = 120.0
"""Audio of a session that may wait to be recognized; beyond it nothing is read."""

LEAST_COMMITTED = 0.1
"""Seconds of the shortest item that a client can commit."""


class RealtimeSession:
    """One connection.

    Args:
        serving: the models.
        served: the one that is asked for at first.
        name: the name under which it was asked for.
        newer: the shape of the session object.
        prompt_letters: most letters of prompt and keywords.
        send: sends a message.
        count: counts something, see `Metrics.count`.
    """

    def __init__(
        self,
        serving: ModelRegistry,
        served: ServedModel,
        name: str,
        newer: bool,
        prompt_letters: int,
        send: Send,
        count: Callable[[str, float], None],
    ) -> None:
        self._id = identifier("sess")
        self._serving = serving
        self._newer = newer
        self._prompt_letters = prompt_letters
        self._send_text = send
        self._count = count
        self._config = SessionConfig(name)
        self._sending = asyncio.Lock()
        self._items: asyncio.Queue[tuple[Item, ServedModel, bool]] = asyncio.Queue()
        self._open: Item | None = None
        self._last_id: str | None = None
        self._before = 0.0  # Seconds that were heard in formats before.
        self._heard = 0  # Samples in this one.
        self._cutter = self._new_cutter()
        self._backlog = 0.0
        self._caught_up = asyncio.Event()

    async def begin(self) -> None:
        """Tell the client what there is."""
        await self._send_session("created")

    async def transcribe(self) -> None:
        """Recognize the items, one after the other; to be cancelled at the end."""
        while True:
            item, served, newer = await self._items.get()
            rate = item.config.format.rate

            def worked(samples: int, rate: int = rate) -> None:
                self._backlog -= samples / rate
                if self._backlog <= BACKLOG_SECONDS:
                    self._caught_up.set()

            await Transcription(item, served, newer, self._send, worked).run()

    async def take(self, message: Mapping[str, Any]) -> None:
        """Do what a message of the client asks; what is wrong with it is an event."""
        event, fault = client_event(message)
        try:
            if fault is not None:
                raise fault
            kind = event["type"]
            if kind == "input_audio_buffer.append":
                await self._append(event["audio"])
            elif kind == "input_audio_buffer.commit":
                await self._commit()
            elif kind == "input_audio_buffer.clear":
                await self._clear()
            else:
                await self._update(event["session"], newer=kind == "session.update")
        except ApiError as error:
            await self.tell(error, event.get("event_id"))

    async def tell(self, error: ApiError, event_id: str | None = None) -> None:
        """Send an error."""
        await self._send(error_event(error, event_id))

    async def _send(self, *events: Mapping[str, Any]) -> None:
        """Send events with none of others between them."""
        async with self._sending:
            for event in events:
                await self._send_text(json.dumps(event))

    async def _send_session(self, done: str) -> None:
        kind = "session" if self._newer else "transcription_session"
        session = {"id": self._id, "object": "realtime.transcription_session"}
        session |= self._config.to_dict(self._newer)
        await self._send(server_event(f"{kind}.{done}", session=session))

    def _new_cutter(self) -> TurnCutter | None:
        detection = self._config.detection
        if detection is None:
            return None
        return TurnCutter(detection, self._config.format.rate, self._heard)

    async def _update(self, session: object, newer: bool) -> None:
        config = self._config.updated(session, newer)
        try:
            self._check(config)
        except ApiError as error:
            raise _placed(error, newer) from None
        fixed = (config.format, config.detection) != (self._config.format, self._config.detection)
        if fixed and self._open is not None:
            raise ApiError(
                400,
                "Format and turn detection cannot change while there is audio in the buffer: "
                "commit or clear it before.",
                param="session",
                code="invalid_value",
            )
        if config.format is not self._config.format:
            self._before += self._heard / self._config.format.rate
            self._heard = 0
        self._config, self._newer = config, newer
        if fixed:
            self._cutter = self._new_cutter()
        await self._send_session("updated")

    def _check(self, config: SessionConfig) -> None:
        """Refuse what the model cannot do."""
        served = self._serving.pick(config.model)
        asked = config.asked
        if len(asked.context) > self._prompt_letters:
            most = self._prompt_letters
            raise ApiError(
                400,
                f"Invalid prompt: it and keywords may have {most} letters together.",
                param="prompt",
                code="invalid_value",
            )
        try:
            check_options(served, asked)
        except AurisError as error:
            raise as_api_error(error) from None

    async def _append(self, audio: object) -> None:
        samples = decoded(audio, self._config.format)
        rate = self._config.format.rate
        # A second at a time, so that others get their turn, and what waits stays bounded.
        for first in range(0, len(samples), rate):
            block = samples[first : first + rate]
            self._count("realtime_audio_seconds", len(block) / rate)
            await self._room()
            await self._hear(block)

    async def _room(self) -> None:
        """Wait until less audio waits."""
        while self._backlog > BACKLOG_SECONDS:
            self._caught_up.clear()
            await self._caught_up.wait()
        await asyncio.sleep(0)

    async def _hear(self, samples: Pcm) -> None:
        if self._cutter is None:
            self._more(self._open or self._begin(self._heard), samples)
            self._heard += len(samples)
            return
        self._heard += len(samples)
        for found in self._cutter.hear(samples):
            if isinstance(found, SpeechStarted):
                item = self._begin(found.at)
                await self._send(self._speech("started", item, "audio_start_ms", found.at))
            elif isinstance(found, Spoken):
                self._more(self._begun(), found.samples)
            else:
                await self._stopped(found.at)

    def _begin(self, at: int) -> Item:
        self._open = Item(self._config, self._seconds(at))
        served = self._serving.pick(self._config.model)
        self._items.put_nowait((self._open, served, self._newer))
        self._count("realtime_items", 1)
        return self._open

    def _begun(self) -> Item:
        assert self._open is not None
        return self._open

    def _more(self, item: Item, samples: Pcm) -> None:
        self._backlog += len(samples) / self._config.format.rate
        item.hear(samples)

    def _seconds(self, at: int) -> float:
        return self._before + at / self._config.format.rate

    def _speech(self, what: str, item: Item, name: str, at: int) -> dict[str, Any]:
        times = {name: round(1000 * self._seconds(at))}
        return server_event(f"input_audio_buffer.speech_{what}", item_id=item.id, **times)

    async def _stopped(self, at: int) -> None:
        item = self._begun()
        await self._send(self._speech("stopped", item, "audio_end_ms", at), *self._committed(item))
        self._end()

    async def _commit(self) -> None:
        item = self._open
        seconds = 0.0 if item is None else item.seconds
        if item is None or seconds < LEAST_COMMITTED:
            raise ApiError(
                400,
                f"There is too little in the buffer to commit: {1000 * seconds:.0f} ms, and at "
                f"least {1000 * LEAST_COMMITTED:.0f} ms are needed.",
                code="input_audio_buffer_commit_empty",
            )
        for found in self._cutter.end() if self._cutter else ():
            if isinstance(found, Spoken):
                self._more(item, found.samples)
        await self._send(*self._committed(item))
        self._end()

    def _committed(self, item: Item) -> list[dict[str, Any]]:
        """The events of a commit, in their order."""
        before = self._last_id
        told: dict[str, Any] = {"id": item.id, "object": "realtime.item", "type": "message"}
        content = {"type": "input_audio", "transcript": None}
        told |= {"status": "completed", "role": "user", "content": [content]}
        kinds = ("added", "done") if self._newer else ("created",)
        names = ["input_audio_buffer.committed"]
        return [
            server_event(names[0], item_id=item.id, previous_item_id=before),
            *(
                server_event(f"conversation.item.{kind}", previous_item_id=before, item=told)
                for kind in kinds
            ),
        ]

    def _end(self) -> None:
        item, self._open = self._begun(), None
        self._last_id = item.id
        item.end()

    async def _clear(self) -> None:
        if self._cutter is not None:
            self._cutter.forget()
        item, self._open = self._open, None
        if item is not None:
            item.end(dropped=True)
            await item.gone.wait()
        await self._send(server_event("input_audio_buffer.cleared"))


def _placed(error: ApiError, newer: bool) -> ApiError:
    """The error about a setting, with its path in the session object."""
    places = NEWER if newer else OLDER
    name = (error.param or "").removesuffix("[]")
    if name == "timestamp_granularities":
        param = f"session.{places['include']}"
    else:
        param = f"session.{places['transcription']}" + (f".{name}" if name else "")
    return ApiError(error.status, error.message, param=param, code=error.code)
