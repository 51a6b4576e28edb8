"""Events of a realtime session: reading those of the client, making those of the server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from auris.server.errors import ApiError, invalid, validation_error
from auris.server.realtime.config import OlderSession, Session, StrictModel

CORRECT_SPEAKERS, CORRECTED_SPEAKERS = "auris.speakers.correct", "auris.speakers.corrected"
"""The request for the speakers of all items, by all audio so far, and its answer."""

LONGEST_ID = 512
"""Characters of a client's `event_id`."""


class ClientEvent(StrictModel):
    """An event of the client; those for the audio buffer and speakers have no other fields."""

    type: str
    event_id: str | None = Field(default=None, max_length=LONGEST_ID)


class SessionUpdate(ClientEvent):
    """A change of settings in the newer shape."""

    session: Session


class OlderUpdate(ClientEvent):
    """A change of settings in the older shape."""

    session: OlderSession


class AudioAppend(ClientEvent):
    """More audio, in base64."""

    audio: str


EVENTS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdate,
    "transcription_session.update": OlderUpdate,
    "input_audio_buffer.append": AudioAppend,
    "input_audio_buffer.commit": ClientEvent,
    "input_audio_buffer.clear": ClientEvent,
    CORRECT_SPEAKERS: ClientEvent,
}


def json_object(message: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a message of ASGI; an `ApiError` where it has none."""
    try:
        content = json.loads(message.get("text") or "", parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        fault = "An event has to be a JSON object in a text message."
        raise ApiError(400, fault, code="invalid_value")
    return content


def client_event(content: dict[str, Any]) -> ClientEvent:
    """The event of a JSON object; an `ApiError` where it or a field is unknown or wrong."""
    kind = content.get("type")
    if isinstance(kind, str) and kind not in EVENTS:
        raise invalid("type", f"{kind[:100]!r} is not one of {', '.join(EVENTS)}")
    model = EVENTS[kind] if isinstance(kind, str) else ClientEvent
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise validation_error(error.errors()[0]) from None


def identifier(kind: str) -> str:
    """A name for something new."""
    return f"{kind}_{secrets.token_hex(11)}"


def server_event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of the server."""
    return {"type": kind, "event_id": identifier("event"), **fields}


def error_event(error: ApiError, event_id: object = None) -> dict[str, Any]:
    """What is wrong with the event of that name, or with the session."""
    valid = isinstance(event_id, str) and len(event_id) <= LONGEST_ID
    fields = {**error.body()["error"], "event_id": event_id if valid else None}
    return server_event("error", error=fields)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
