"""The API as OpenAPI describes it: what routes take and give."""

from __future__ import annotations

from typing import Any

from fastapi import Security
from fastapi.security import HTTPBearer

from auris.server.transcription_request import ALSO, FORMATS

__all__ = [
    "HEALTH",
    "JOB",
    "JOB_DELETED",
    "JOB_LIST",
    "JOB_RESULT",
    "JOB_SEGMENTS",
    "KEY",
    "METRICS",
    "MODEL",
    "MODELS",
    "NEW_JOB",
    "TRANSCRIPTION",
    "TRANSLATION",
]

KEY = Security(HTTPBearer(auto_error=False, description="A key of the server, where it has some."))

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE: Schema = {"type": ["string", "null"]}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _of(kind: str, schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {kind: {"schema": schema}}}


ERROR = _object(
    {"error": _object({"message": STRING, "type": STRING, "param": MAYBE, "code": MAYBE})}
)


def _refusals(*statuses: int) -> dict[int | str, Schema]:
    told = {
        400: "The request is wrong, or asks for what cannot be done.",
        401: "The key is missing or wrong.",
        403: "Without keys, only this machine is answered.",
        404: "There is no such thing.",
        405: "The method is another.",
        408: "The request did not come to its end.",
        409: "There is no result, or none yet.",
        413: "The request or the recording is too large.",
        429: "There is no room now; Retry-After says when to ask again.",
        499: "The caller has left.",
        503: "The engine is stopping, or out of memory.",
        507: "The server's disk is full.",
    }
    return {
        status: _of("application/json", ERROR, told[status])
        for status in sorted({400, 401, 403, 405, *statuses})
    }


def _route(
    schema: Schema,
    description: str,
    *refusals: int,
    status: int = 200,
    kind: str = "application/json",
) -> dict[str, Any]:
    """Arguments of a route: its responses, and its success's status."""
    return {
        "status_code": status,
        "response_model": None,
        "responses": {status: _of(kind, schema, description), **_refusals(*refusals)},
    }


DETAILS = _object({"audio_tokens": COUNT, "text_tokens": COUNT})
TOKENS = _object(
    {
        "type": {"const": "tokens"},
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "total_tokens": COUNT,
    },
    input_token_details=DETAILS,
)
DURATION = _object({"type": {"const": "duration"}, "seconds": NUMBER})
USAGE: Schema = {"oneOf": [TOKENS, DURATION]}
LOGPROB = _object({"token": STRING, "logprob": NUMBER, "bytes": _list(COUNT)})

JSON_ANSWER = _object(
    {"text": STRING, "languages": _list(_object({"code": STRING})), "usage": USAGE},
    logprobs=_list(LOGPROB),
)
VERBOSE_SEGMENT = _object(
    {
        "id": COUNT,
        "seek": COUNT,
        "start": NUMBER,
        "end": NUMBER,
        "text": STRING,
        "tokens": _list(COUNT),
        "temperature": NUMBER,
        "avg_logprob": NUMBER,
        "compression_ratio": NUMBER,
        "no_speech_prob": NUMBER,
        "finish_reason": {"type": "string", "enum": ["stop", "length", "loop", "cancelled"]},
        "truncated": {"type": "boolean"},
    }
)
WORD = _object({"word": STRING, "start": NUMBER, "end": NUMBER})
VERBOSE = _object(
    {
        "task": {"const": "transcribe"},
        "language": STRING,
        "duration": NUMBER,
        "text": STRING,
        "usage": DURATION,
    },
    segments=_list(VERBOSE_SEGMENT),
    words=_list(WORD),
)
DIARIZED = _object(
    {
        "task": {"const": "transcribe"},
        "duration": NUMBER,
        "text": STRING,
        "segments": _list(
            _object(
                {
                    "type": {"const": "transcript.text.segment"},
                    "id": STRING,
                    "start": NUMBER,
                    "end": NUMBER,
                    "text": STRING,
                    "speaker": STRING,
                }
            )
        ),
        "usage": USAGE,
    }
)

FIELDS: dict[str, Schema] = {
    "file": {"type": "string", "format": "binary", "description": "The recording, of any kind."},
    "url": {"type": "string", "description": "Where it is, where the server fetches addresses."},
    "model": {"type": "string", "description": "One of /v1/models."},
    "language": {"type": "string", "description": "Code or English name of the one to force."},
    "languages[]": _list(STRING),
    "prompt": {"type": "string", "description": "Words and names to expect."},
    "keywords[]": _list(STRING),
    "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    "timestamp_granularities[]": _list({"type": "string", "enum": ["word", "segment"]}),
    "include[]": _list({"type": "string", "enum": ["logprobs"]}),
    "chunking_strategy": {"type": "string", "enum": ["auto"]},
    "known_speaker_names[]": {**_list(STRING), "maxItems": 4},
    "stream": {"type": "boolean", "default": False},
    "formats[]": _list({"type": "string", "enum": list(ALSO)}),
}


def _form(*left_out: str) -> dict[str, Any]:
    fields = {name: schema for name, schema in FIELDS.items() if name not in left_out}
    form = {"type": "object", "properties": fields, "required": ["model"]}
    content = {"multipart/form-data": {"schema": form}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def _answers(events: bool) -> Schema:
    kinds: dict[str, Schema] = {"application/json": {"oneOf": [JSON_ANSWER, VERBOSE, DIARIZED]}}
    kinds |= dict.fromkeys(("text/plain", "application/x-subrip", "text/vtt"), STRING)
    if events:
        kinds["text/event-stream"] = STRING
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"description": "The transcript.", "content": content}


JOB_SHOWN = _object(
    {
        "id": STRING,
        "object": {"const": "transcription.job"},
        "created_at": COUNT,
        "finished_at": {"type": ["integer", "null"]},
        "status": {
            "type": "string",
            "enum": ["queued", "running", "succeeded", "failed", "cancelled"],
        },
        "model": STRING,
        "response_format": STRING,
        "progress": _object(
            {"seconds_done": NUMBER, "seconds_total": {"type": ["number", "null"]}}
        ),
        "error": {"type": ["object", "null"]},
    }
)
MODEL_SHOWN = _object(
    {"id": STRING, "object": {"const": "model"}, "created": COUNT, "owned_by": STRING},
    capabilities=_object(
        {"languages": _list(STRING), "prompt": {"type": "boolean"}, "words": {"type": "boolean"}}
    ),
)

WORK = (404, 408, 413, 429, 499, 503, 507)
"""Refusals of what takes a recording."""

TRANSCRIPTION: dict[str, Any] = {
    "response_model": None,
    "responses": {200: _answers(events=True), **_refusals(*WORK)},
    **_form(),
}
TRANSLATION: dict[str, Any] = {
    "response_model": None,
    "responses": {200: _answers(events=False), **_refusals(*WORK)},
    **_form(*(set(FIELDS) - {"file", "url", "model", "prompt", "response_format", "temperature"})),
}
NEW_JOB = {
    **_route(JOB_SHOWN, "The job was accepted.", *WORK, status=202),
    **_form("stream", "formats[]"),
}
JOB = _route(JOB_SHOWN, "The job.", 404, 507)
JOB_LIST = _route(
    _object({"object": {"const": "list"}, "data": _list(JOB_SHOWN)}),
    "The jobs of this key.",
    404,
    507,
)
JOB_SEGMENTS = _route(
    _object(
        {
            "object": {"const": "list"},
            "data": _list(
                {
                    **VERBOSE_SEGMENT,
                    "properties": {**VERBOSE_SEGMENT["properties"], "words": _list(WORD)},
                }
            ),
        }
    ),
    "The segments that are done.",
    404,
    507,
)
JOB_RESULT: dict[str, Any] = {
    "response_model": None,
    "responses": {200: _answers(events=False), **_refusals(404, 409, 507)},
}
JOB_DELETED = _route(
    _object({"id": STRING, "object": STRING, "deleted": {"const": True}}),
    "The job is gone.",
    404,
    507,
)
MODELS = _route(_object({"object": {"const": "list"}, "data": _list(MODEL_SHOWN)}), "The models.")
MODEL = _route(MODEL_SHOWN, "The model.", 404)
HEALTH = _route(_object({"status": STRING}), "It works.", 503)
METRICS = _route(STRING, "Counters.", 507, kind="text/plain")
