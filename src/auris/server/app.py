"""The application that uvicorn runs: routes, middleware and error handlers."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from auris import __version__
from auris.errors import AurisError
from auris.server import audio_routes, page_routes, status_routes
from auris.server.errors import ApiError, ClientDisconnected, as_api_error
from auris.server.jobs import routes as job_routes
from auris.server.middleware import AccessMiddleware, note_reason
from auris.server.realtime import route as realtime_route
from auris.server.state import Server

DISCONNECTED = 499
"""Status of the answer to a client that has disconnected, which nobody reads."""

HANDLED = (
    ApiError,
    AurisError,
    HTTPException,
    RequestValidationError,
    OSError,
    sqlite3.OperationalError,
    ClientDisconnected,
    ClientDisconnect,
    Exception,  # A fault of the program; Starlette also writes its traceback to the log.
)


def create_app(server: Server) -> FastAPI:
    """The application of a server, whose engines run while the application does."""

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
    for routes in (audio_routes, status_routes, realtime_route):
        app.include_router(routes.router)
    if server.settings.jobs:
        app.include_router(job_routes.router)
    if server.settings.page:
        app.include_router(page_routes.router)
    app.include_router(realtime_route.other_paths)
    for kind in HANDLED:
        app.add_exception_handler(kind, _answer_error)
    app.add_middleware(
        AccessMiddleware,
        settings=server.settings,
        metrics=server.metrics,
        tracing=server.tracing,
    )
    if server.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
        )
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnected | ClientDisconnect):
        return Response(status_code=DISCONNECTED)
    answer = as_api_error(error)
    status_name = HTTPStatus(answer.status).name.lower()
    note_reason(request.scope, answer.code or status_name)
    return answer.response()
