"""The program that uvicorn runs: routes, guards, and what becomes of errors."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from auris import __version__
from auris.errors import AurisError
from auris.server import audio_routes, job_routes, page_routes, status_routes
from auris.server.calls import ClientDisconnected
from auris.server.errors import ApiError, as_api_error, is_full_disk
from auris.server.middleware import AccessMiddleware
from auris.server.realtime import route as realtime_route
from auris.server.realtime.route import other_sockets
from auris.server.request_log import note_reason
from auris.server.state import Server
from auris.server.transcription_request import SHOWN_LETTERS

__all__ = ["create_app"]

LEFT = 499
"""Status of an answer that nobody is there to read."""

_LOG = logging.getLogger(__name__)


def create_app(server: Server) -> FastAPI:
    """The program around a server's state; it works while the program's lifespan lasts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with server.running():
            yield

    app = FastAPI(
        title="Auris",
        version=__version__,
        summary="Speech recognition behind the OpenAI audio API.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server = server
    for routes in (audio_routes, job_routes, status_routes, realtime_route):
        app.include_router(routes.router)
    if server.settings.page:
        app.include_router(page_routes.router)
    app.include_router(other_sockets)
    for kind in (
        ApiError,
        AurisError,
        HTTPException,
        RequestValidationError,
        OSError,
        sqlite3.OperationalError,
        ClientDisconnected,
        ClientDisconnect,
    ):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(Exception, _unforeseen)
    app.add_middleware(AccessMiddleware, settings=server.settings, metrics=server.metrics)
    if server.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
        )
    return app


async def _told(request: Request, error: Exception) -> Response:
    """The answer for an error that was foreseen."""
    if isinstance(error, ClientDisconnected | ClientDisconnect):
        return Response(status_code=LEFT)
    told = _as_told(error)
    note_reason(request.scope, told.code or type(error).__name__)
    return JSONResponse(told.body(), told.status, told.headers)


def _as_told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AurisError):
        return as_api_error(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError):
        return _wrong_parameter(error.errors()[0])
    if is_full_disk(error):
        return ApiError(507, "The server's disk is full.", code="insufficient_storage")
    return ApiError(500, "The server could not read or write a file.", code="storage_failed")


def _wrong_parameter(fault: dict[str, Any]) -> ApiError:
    """A parameter of the address that is not of its type or beyond its bounds.

    Args:
        fault: as FastAPI tells it; its message begins "Input should be".
    """
    name = str(fault["loc"][-1])
    rule = fault["msg"].replace("Input should be", "it has to be").partition(",")[0]
    found = str(fault.get("input"))[:SHOWN_LETTERS]
    return ApiError(
        400,
        f"Invalid '{name}': {rule}, but is {found!r}: correct it, or leave it out.",
        param=name,
        code="invalid_value",
    )


async def _unforeseen(request: Request, error: Exception) -> Response:
    """The answer for a fault of the program; its traceback goes to the log."""
    note_reason(request.scope, type(error).__name__)
    return JSONResponse(ApiError(500, "The program failed.").body(), 500)
