"""Errors of the API: a status, and an object that says what is wrong with which parameter."""

from __future__ import annotations

import errno
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from auris.errors import (
    AudioError,
    AurisError,
    DeviceError,
    EngineError,
    LanguageError,
    OutputError,
    UnsupportedOption,
    UsageError,
)

SHOWN_CHARACTERS = 40
"""Characters of a wrong value that its error shows; no number is as long."""

PARAMETERS = {
    "--context": "prompt",
    "--temperature": "temperature",
    "--languages": "languages[]",
    "--language": "language",
    "--word-timestamps": "timestamp_granularities[]",
}
"""Form fields by the options of the command line that messages of the engine name."""

ENGINE_ERRORS: dict[type[AurisError], tuple[int, str | None, str]] = {
    AudioError: (400, "file", "invalid_audio"),
    LanguageError: (400, "language", "invalid_value"),
    UnsupportedOption: (400, None, "unsupported_parameter"),
    UsageError: (400, None, "invalid_value"),
    OutputError: (507, None, "insufficient_storage"),
    DeviceError: (503, None, "engine_unavailable"),
    EngineError: (503, None, "engine_unavailable"),
    AurisError: (500, None, "engine_failed"),
}
"""Status, parameter and code; the first class that an error is an instance of counts."""


class ApiError(Exception):
    """An answer with an error: its status, a sentence for people, the name of the wrong field, a
    code for programs, and further headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error object of the API."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def response(self) -> JSONResponse:
        """The answer to an HTTP request."""
        return JSONResponse(self.body(), self.status, self.headers)


class ClientDisconnected(Exception):
    """The client has disconnected, so nobody needs an answer."""


def invalid(param: str | None, reason: str, code: str = "invalid_value") -> ApiError:
    """The error of a parameter with a wrong value."""
    return ApiError(400, f"Invalid '{param}': {reason}.", param=param, code=code)


def unsupported(param: str, reason: str) -> ApiError:
    """The error of a parameter that the server does not support."""
    code = "unsupported_parameter"
    return ApiError(400, f"Unsupported '{param}': {reason}.", param=param, code=code)


def busy(message: str, seconds: float) -> ApiError:
    """The error of a server that is likely to have room in some seconds, at most 10 minutes."""
    shown = max(1, min(math.ceil(seconds), 600))
    return ApiError(429, message, code="server_busy", headers={"Retry-After": str(shown)})


def server_stopping() -> ApiError:
    """The error of a server that stops."""
    return ApiError(503, "The server is stopping: send the request again.", code="server_stopping")


def unsupported_value(reason: str) -> PydanticCustomError:
    """The error of a validator of a model that `validation_error` turns into `unsupported`."""
    return PydanticCustomError("unsupported", "{reason}", {"reason": reason})


def validation_error(fault: ErrorDetails | dict[str, Any]) -> ApiError:
    """The API's error for an error of pydantic, one of `ValidationError.errors()`."""
    param = ".".join(part[:100] for part in fault["loc"] if isinstance(part, str))
    kind, message = fault["type"], fault["msg"]
    if kind == "missing":
        message, code = f"Missing '{param}': it is needed.", "missing_required_parameter"
        return ApiError(400, message, param=param, code=code)
    if kind == "extra_forbidden":
        message, code = f"Unknown parameter: '{param}'.", "unknown_parameter"
        return ApiError(400, message, param=param, code=code)
    if kind == "unsupported":
        return unsupported(param, message)
    if kind == "value_error":
        return invalid(param, str(fault["ctx"]["error"]))
    if kind in ("model_type", "model_attributes_type"):
        return invalid(param, "it has to be an object")
    rule = message.replace("Input should be", "it has to be").partition(", unable")[0]
    given = str(fault["input"])[:SHOWN_CHARACTERS]
    return invalid(param, f"{rule}, but is {given!r}: correct it, or leave it out")


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no room to write."""
    if isinstance(error, sqlite3.OperationalError):
        return "full" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def as_api_error(error: Exception) -> ApiError:
    """The error of the API for any error; the message of a program failure has no details."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AurisError):
        return _engine_error(error.without_span())
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError):
        fault = error.errors()[0]
        return validation_error({**fault, "loc": fault["loc"][1:]})
    if is_full_disk(error):
        return ApiError(507, "The server's disk is full.", code="insufficient_storage")
    if isinstance(error, OSError | sqlite3.OperationalError):
        return ApiError(500, "The server could not read or write a file.", code="storage_failed")
    return ApiError(500, "The program failed.", code="engine_failed")


def _engine_error(error: AurisError) -> ApiError:
    status, param, code = next(
        values for kind, values in ENGINE_ERRORS.items() if isinstance(error, kind)
    )
    message = str(error)
    if isinstance(error, UnsupportedOption):
        message = error.sentence
        param = next((name for option, name in PARAMETERS.items() if option in message), None)
        for option, name in PARAMETERS.items():
            message = message.replace(option, name)
    return ApiError(status, message, param=param, code=code)
