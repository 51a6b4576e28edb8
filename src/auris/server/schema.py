"""What the routes answer, and how OpenAPI describes them."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from typing_extensions import NotRequired, TypedDict

from auris.server.formats import TEXTS

T = TypeVar("T")

LanguageCode = dict[Literal["code"], str]

KEY = Security(HTTPBearer(auto_error=False, description="A key of the server, where it has some."))


class ErrorObject(TypedDict):
    """What is wrong, and with which parameter."""

    message: str
    type: str
    param: str | None
    code: str | None


class TokenUsage(TypedDict):
    """What a request counts, in tokens."""

    type: Literal["tokens"]
    input_tokens: int
    input_token_details: dict[Literal["audio_tokens", "text_tokens"], int]
    output_tokens: int
    total_tokens: int


class DurationUsage(TypedDict):
    """What a request counts, in seconds."""

    type: Literal["duration"]
    seconds: float


class TokenLogprob(TypedDict):
    """The log-probability of a token."""

    token: str
    logprob: float
    bytes: list[int]


class JsonTranscript(TypedDict):
    """A transcript as json."""

    text: str
    languages: list[LanguageCode]
    logprobs: NotRequired[list[TokenLogprob]]
    usage: TokenUsage | DurationUsage
    warnings: NotRequired[list[str]]


class VerboseWord(TypedDict):
    """A word with its times in seconds."""

    word: str
    start: float
    end: float


class VerboseSegment(TypedDict):
    """A segment of verbose_json, with its speaker where speakers are told apart; in jobs and events
    it has its words."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    finish_reason: Literal["stop", "length", "loop", "cancelled"]
    truncated: bool
    speaker: NotRequired[str]
    words: NotRequired[list[VerboseWord]]


class VerboseTranscript(TypedDict):
    """A transcript as verbose_json."""

    task: Literal["transcribe"]
    language: str
    duration: float
    text: str
    usage: DurationUsage
    segments: NotRequired[list[VerboseSegment]]
    words: NotRequired[list[VerboseWord]]
    warnings: NotRequired[list[str]]


class DiarizedSegment(TypedDict):
    """A segment with its speaker."""

    type: Literal["transcript.text.segment"]
    id: str
    start: float
    end: float
    text: str
    speaker: str


class DiarizedTranscript(TypedDict):
    """A transcript as diarized_json."""

    task: Literal["transcribe"]
    duration: float
    text: str
    segments: list[DiarizedSegment]
    usage: TokenUsage | DurationUsage
    warnings: NotRequired[list[str]]


class JobObject(TypedDict):
    """A job."""

    id: str
    object: Literal["transcription.job"]
    created_at: int
    finished_at: int | None
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    model: str
    response_format: str
    progress: dict[Literal["seconds_done", "seconds_total"], float | None]
    error: ErrorObject | None


class DeletedJob(TypedDict):
    """A job that was deleted."""

    id: str
    object: Literal["transcription.job.deleted"]
    deleted: Literal[True]


class ModelCapabilities(TypedDict):
    """What requests to a model may contain."""

    languages: list[str]
    prompt: bool
    words: bool
    speakers: bool


class ModelObject(TypedDict):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    capabilities: ModelCapabilities


class ObjectList(TypedDict, Generic[T]):
    """A list as the API shows it."""

    object: Literal["list"]
    data: list[T]


Transcript = JsonTranscript | VerboseTranscript | DiarizedTranscript
TEXT_TYPES = tuple(kind for _, kind in TEXTS.values())

ERRORS = {
    400: "The request is wrong, or its fields are not supported.",
    401: "The key is missing or wrong.",
    403: "Without keys, only requests from this machine are answered.",
    404: "It does not exist.",
    405: "The method is wrong.",
    408: "The request did not arrive completely.",
    409: "There is no result, or none yet.",
    413: "The request or the recording is too large.",
    429: "There is no room now; Retry-After says when to try again.",
    499: "The client has disconnected.",
    503: "The engine is stopping, or out of memory.",
    507: "The server's disk is full.",
}
RECORDING_ERRORS = (404, 408, 413, 429, 499, 503, 507)
"""Errors of the routes that take a recording."""


def route(
    model: Any, description: str, *errors: int, status: int = 200, text: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Arguments of a route: the type of its JSON answer, a description, and statuses of errors
    besides those of all routes; `text` are the content types of other answers."""
    content = {kind: {"schema": {"type": "string"}} for kind in text}
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": dict[Literal["error"], ErrorObject], "description": ERRORS[code]}
        for code in sorted({400, 401, 403, 405, *errors})
    }
    responses[status] = {"model": model, "description": description, "content": content}
    return {"status_code": status, "response_model": None, "responses": responses}


def form(model: type[BaseModel], *without: str) -> dict[str, Any]:
    """The argument of a route that takes a form with the fields of a model and a recording."""
    schema = model.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "The recording, of any kind."}
    fields = {"file": file, **schema["properties"]}
    schema["properties"] = {name: fields[name] for name in fields if name not in without}
    content = {"multipart/form-data": {"schema": schema}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}
