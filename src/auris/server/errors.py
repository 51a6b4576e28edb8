"""Errors as the API tells them: a status, and an object that says what is wrong with what."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from typing import Any

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

__all__ = ["STOPPING", "ApiError", "as_api_error", "busy", "error_object", "is_full_disk"]

STOPPING = "server_stopping"
"""Code of the refusal of a server that stops."""

INVALID = "invalid_request_error"
SERVER = "server_error"

PARAMETERS = {
    "--context": "prompt",
    "--temperature": "temperature",
    "--languages": "languages[]",
    "--language": "language",
    "--word-timestamps": "timestamp_granularities[]",
}
"""Form fields by the command line's options, which messages of the engine name."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: of the HTTP response.
        message: a sentence for people.
        param: the form field that it is about.
        code: a word for programs.
        headers: further ones of the response.
    """

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
        """The response's JSON."""
        kind = SERVER if self.status >= 500 else INVALID
        if self.status == 429:
            kind = "rate_limit_error"
        return error_object(self.message, kind, self.param, self.code)


def error_object(
    message: str, kind: str = INVALID, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The API's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def busy(message: str, seconds: int) -> ApiError:
    """The refusal of work that another moment may have room for."""
    return ApiError(429, message, code="server_busy", headers={"Retry-After": str(seconds)})


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no room to write."""
    if isinstance(error, sqlite3.OperationalError):
        return "full" in str(error)
    return isinstance(error, OSError) and error.errno in FULL


def as_api_error(error: AurisError) -> ApiError:
    """What the caller is told of an error of the engine's."""
    error = error.without_span()
    message = error.sentence if isinstance(error, UnsupportedOption) else str(error)
    if isinstance(error, AudioError):
        return ApiError(400, message, param="file", code="invalid_audio")
    if isinstance(error, LanguageError):
        return ApiError(400, message, param="language", code="invalid_value")
    if isinstance(error, UnsupportedOption):
        param = next((p for option, p in PARAMETERS.items() if option in message), None)
        for option, name in PARAMETERS.items():
            message = message.replace(option, name)
        return ApiError(400, message, param=param, code="unsupported_parameter")
    if isinstance(error, UsageError):
        return ApiError(400, message, code="invalid_value")
    if isinstance(error, OutputError):
        return ApiError(507, message, code="insufficient_storage")
    if isinstance(error, DeviceError | EngineError):
        return ApiError(503, message, code="engine_unavailable")
    return ApiError(500, message, code="engine_failed")
