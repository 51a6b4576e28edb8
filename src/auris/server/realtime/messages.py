"""Events of a realtime session: those of a client read, those of the server made."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from auris.server.errors import ApiError

__all__ = ["client_event", "error_event", "identifier", "server_event"]

FIELDS = {
    "session.update": "session",
    "transcription_session.update": "session",
    "input_audio_buffer.append": "audio",
    "input_audio_buffer.commit": None,
    "input_audio_buffer.clear": None,
}
"""Events that are understood, and the one field that each needs, if any."""

LONGEST_ID = 512
"""Characters of a client's `event_id`."""


def identifier(kind: str) -> str:
    """A name for something new."""
    return f"{kind}_{secrets.token_hex(11)}"


def server_event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of the server."""
    return {"type": kind, "event_id": identifier("event"), **fields}


def error_event(error: ApiError, event_id: str | None) -> dict[str, Any]:
    """What was wrong with the event of that name, or with the session."""
    return server_event("error", error={**error.body()["error"], "event_id": event_id})


def client_event(message: Mapping[str, Any]) -> tuple[dict[str, Any], ApiError | None]:
    """An event of a client.

    Args:
        message: as of ASGI, with `text` or `bytes`.

    Returns:
        the event, of which only `event_id` counts where there is something wrong with it, and that.
    """
    try:
        event = json.loads(message.get("text") or "", parse_constant=_no_number)
    except (ValueError, RecursionError):
        return {}, _invalid(None, "An event has to be a JSON object in a text message.")
    if not isinstance(event, dict):
        return {}, _invalid(None, "An event has to be a JSON object.")
    if not isinstance(event.get("event_id", ""), str | None) or _too_long(event.get("event_id")):
        fault = f"Invalid 'event_id': it has to be a string of at most {LONGEST_ID} characters."
        return {}, _invalid("event_id", fault)
    try:
        _check(event)
    except ApiError as error:
        return event, error
    return event, None


def _too_long(name: str | None) -> bool:
    return name is not None and len(name) > LONGEST_ID


def _check(event: dict[str, Any]) -> None:
    kind = event.get("type")
    if not isinstance(kind, str):
        raise _invalid("type", "Missing 'type': it is needed.", "missing_required_parameter")
    if kind not in FIELDS:
        raise _invalid("type", f"Invalid 'type': {kind[:100]!r} is not one of {', '.join(FIELDS)}.")
    needed = FIELDS[kind]
    for name in event:
        if name not in ("type", "event_id", needed):
            raise _invalid(name[:100], f"Unknown parameter: {name[:100]!r}.", "unknown_parameter")
    if needed is not None and needed not in event:
        raise _invalid(needed, f"Missing '{needed}': it is needed.", "missing_required_parameter")


def _no_number(name: str) -> float:
    raise ValueError(name)


def _invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)
