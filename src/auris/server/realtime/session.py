"""A realtime session: the audio of a client is cut into items, whose texts are sent as events."""

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
from auris.server.realtime.config import OLDER_NAMES, SPEAKERS, OlderSession, Session
from auris.server.realtime.formats import decoded
from auris.server.realtime.items import Item
from auris.server.realtime.messages import (
    CORRECT_SPEAKERS,
    CORRECTED_SPEAKERS,
    AudioAppend,
    OlderUpdate,
    SessionUpdate,
    client_event,
    error_event,
    identifier,
    json_object,
    server_event,
)
from auris.server.realtime.speakers import SessionSpeakers
from auris.server.realtime.turns import SpeechAudio, SpeechStarted, SpeechStopped, TurnCutter
from auris.server.state import Server

Pcm = NDArray[np.int16]

BACKLOG_SECONDS = 120.0
"""Audio of a session that may wait to be recognized; beyond it nothing is read."""

LEAST_COMMITTED = 0.1
"""Seconds of the shortest item that a client can commit."""


class RealtimeSession:
    """One connection; `newer` is the shape of its session object."""

    def __init__(
        self, server: Server, name: str, newer: bool, send: Callable[[str], Awaitable[None]]
    ) -> None:
        self._id = identifier("sess")
        self._server = server
        self._newer = newer
        self._send_text = send
        self._settings = Session.of_model(name)
        self._sending = asyncio.Lock()
        self._jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._speakers: SessionSpeakers | None = None
        self._open: Item | None = None
        self._last_id: str | None = None
        self._earlier_seconds = 0.0  # Of audio in earlier formats.
        self._samples = 0  # Of audio in the present format.
        self._cutter = self._new_cutter()
        self._backlog = 0.0
        self._caught_up = asyncio.Event()

    async def begin(self) -> None:
        """Send the settings."""
        await self._send_session("created")

    async def transcribe(self) -> None:
        """Recognize the items, one after the other; to be cancelled at the end."""
        while True:
            await (await self._jobs.get())()

    def _recognized(self, seconds: float) -> None:
        self._backlog -= seconds
        if self._backlog <= BACKLOG_SECONDS:
            self._caught_up.set()

    async def handle(self, message: Mapping[str, Any]) -> None:
        """Do what a message of the client says; a wrong message is answered with an event."""
        event_id = None
        try:
            content = json_object(message)
            event_id = content.get("event_id")
            event = client_event(content)
            if isinstance(event, AudioAppend):
                await self._append(decoded(event.audio, self._settings.format))
            elif isinstance(event, SessionUpdate | OlderUpdate):
                await self._update(event.session)
            elif event.type == "input_audio_buffer.commit":
                await self._commit()
            elif event.type == CORRECT_SPEAKERS:
                self._correct_speakers()
            else:
                await self._clear()
        except ApiError as error:
            await self.send_error(error, event_id)

    async def send_error(self, error: ApiError, event_id: object = None) -> None:
        """Send an error about an event of the client, or about the session."""
        await self._send(error_event(error, event_id))

    async def _send(self, *events: Mapping[str, Any]) -> None:
        """Send events with none of others between them."""
        async with self._sending:
            for event in events:
                await self._send_text(json.dumps(event))

    async def _send_session(self, change: str) -> None:
        kind = "session" if self._newer else "transcription_session"
        session = {"id": self._id, "object": "realtime.transcription_session"}
        session |= self._settings.to_dict(self._newer)
        await self._send(server_event(f"{kind}.{change}", session=session))

    def _new_cutter(self) -> TurnCutter | None:
        detection = self._settings.audio.input.turn_detection
        if detection is None:
            return None
        rate, vad_model = self._settings.format.rate, self._server.settings.vad_model
        return TurnCutter(detection, rate, self._samples, vad_model, self._open is not None)

    async def _update(self, change: Session | OlderSession) -> None:
        before, after = self._settings, self._settings.updated(change)
        newer = isinstance(change, Session)
        try:
            name = after.audio.input.transcription.model
            letters = self._server.settings.most_prompt_letters
            served = self._server.models.pick(name)
            if SPEAKERS in after.include:
                diarizer = await asyncio.to_thread(served.diarizer.get)
                self._speakers = self._speakers or SessionSpeakers(diarizer)
            check_options(served, after.request, letters)
        except (ApiError, AurisError) as error:
            raise _with_path(as_api_error(error), newer) from None
        other_format = before.format != after.format
        other_turns = before.audio.input.turn_detection != after.audio.input.turn_detection
        if other_format and self._open is not None:
            raise ApiError(
                400,
                "The format cannot change while there is audio in the buffer: commit or clear it "
                "before.",
                param="session",
                code="invalid_value",
            )
        if other_format:
            self._earlier_seconds += self._samples / before.format.rate
            self._samples = 0
        self._settings, self._newer = after, newer
        if other_format:
            self._cutter = self._new_cutter()
        elif other_turns:
            self._change_turns()
        await self._send_session("updated")

    def _change_turns(self) -> None:
        """Detect turns by the present settings; an open item stays open."""
        detection = self._settings.audio.input.turn_detection
        if self._cutter is not None and detection is not None:
            self._cutter.configure(detection)
            return
        if self._open is not None:
            self._append_rest(self._open)
        self._cutter = self._new_cutter()

    async def _append(self, samples: Pcm) -> None:
        rate = self._settings.format.rate
        # A second at a time, so that others get their turn, and what waits stays bounded.
        for first in range(0, len(samples), rate):
            block = samples[first : first + rate]
            self._server.metrics.count("realtime_audio_seconds", len(block) / rate)
            while self._backlog > BACKLOG_SECONDS:
                self._caught_up.clear()
                await self._caught_up.wait()
            await asyncio.sleep(0)
            self._samples += len(block)
            if self._cutter is None:
                self._append_to(self._open or self._begin(self._samples - len(block)), block)
                continue
            for event in self._cutter.push(block):
                await self._handle_turn(event)

    async def _handle_turn(self, event: SpeechStarted | SpeechAudio | SpeechStopped) -> None:
        if isinstance(event, SpeechStarted):
            item = self._begin(event.sample)
            await self._send(self._speech_event("started", item, "audio_start_ms", event.sample))
            return
        assert self._open is not None
        if isinstance(event, SpeechAudio):
            self._append_to(self._open, event.samples)
        else:
            stopped = self._speech_event("stopped", self._open, "audio_end_ms", event.sample)
            await self._end(self._open, stopped)

    def _begin(self, sample: int) -> Item:
        served = self._server.models.pick(self._settings.audio.input.transcription.model)
        self._open = Item(
            self._settings,
            served,
            self._newer,
            self._seconds(sample),
            self._send,
            self._recognized,
            self._speakers if SPEAKERS in self._settings.include else None,
        )
        self._jobs.put_nowait(self._open.transcribe)
        self._server.metrics.count("realtime_items", 1)
        return self._open

    def _append_to(self, item: Item, samples: Pcm) -> None:
        self._backlog += len(samples) / self._settings.format.rate
        item.append(samples)

    def _seconds(self, sample: int) -> float:
        return self._earlier_seconds + sample / self._settings.format.rate

    def _speech_event(self, what: str, item: Item, name: str, sample: int) -> dict[str, Any]:
        time = {name: round(1000 * self._seconds(sample))}
        return server_event(f"input_audio_buffer.speech_{what}", item_id=item.id, **time)

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
        self._append_rest(item)
        await self._end(item)

    def _correct_speakers(self) -> None:
        """Send the speakers of all items, when those that were begun are complete."""
        speakers = self._speakers
        if speakers is None:
            raise ApiError(
                400,
                f"Speakers are not told apart: include {SPEAKERS} in the session.",
                param="type",
                code="invalid_value",
            )

        async def correct() -> None:
            items = await asyncio.to_thread(speakers.corrected)
            await self._send(server_event(CORRECTED_SPEAKERS, items=items))

        self._jobs.put_nowait(correct)

    def _append_rest(self, item: Item) -> None:
        """Add the audio that the detector has not classified yet."""
        for event in self._cutter.end() if self._cutter else ():
            if isinstance(event, SpeechAudio):
                self._append_to(item, event.samples)

    async def _end(self, item: Item, *events: dict[str, Any]) -> None:
        """End the open item, and send some events and those of a commit."""
        before, self._last_id, self._open = self._last_id, item.id, None
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        committed = {"item_id": item.id, "previous_item_id": before}
        await self._send(
            *events,
            server_event("input_audio_buffer.committed", **committed),
            *(
                server_event(f"conversation.item.{kind}", previous_item_id=before, item=shown)
                for kind in (("added", "done") if self._newer else ("created",))
            ),
        )
        item.end()

    async def _clear(self) -> None:
        if self._cutter is not None:
            self._cutter.clear()
        item, self._open = self._open, None
        if item is not None:
            item.end(dropped=True)
            await item.finished.wait()
        await self._send(server_event("input_audio_buffer.cleared"))


def _with_path(error: ApiError, newer: bool) -> ApiError:
    """The error of an option, with its path in the session object."""
    name = (error.param or "").removesuffix("[]")
    path = "audio.input.transcription" if newer else OLDER_NAMES["transcription"]
    if name in ("timestamp_granularities", "diarize"):
        param = "session.include"
    else:
        param = f"session.{path}.{name}" if name else f"session.{path}"
    return ApiError(error.status, error.message, param=param, code=error.code)
