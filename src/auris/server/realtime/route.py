"""`/v1/realtime`: who gets a session, and how one ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from auris.server.errors import ApiError, busy
from auris.server.model_registry import ServedModel
from auris.server.realtime.session import RealtimeSession
from auris.server.request_log import note_reason
from auris.server.state import Server

__all__ = ["other_sockets", "router"]

router = APIRouter()
other_sockets = APIRouter()

SUBPROTOCOL = "realtime"
OLDER_SUBPROTOCOL = "openai-beta.realtime-v1"
OLDER_HEADER = ("openai-beta", "realtime=v1")

POLICY, FAILED = 1008, 1011
"""Close codes: against a rule of the server, and a failure of it."""

RETRY_SECONDS = 10
"""When to ask again for one of the sessions."""

_LOG = logging.getLogger(__name__)


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket) -> None:
    """A session of live transcription."""
    server: Server = socket.app.state.server
    try:
        served, name = _wanted(socket, server)
    except ApiError as error:
        await _refuse(socket, error)
        return
    offered: Sequence[str] = socket.scope["subprotocols"]
    older = OLDER_SUBPROTOCOL in offered or socket.headers.get(OLDER_HEADER[0]) == OLDER_HEADER[1]
    server.realtime_sessions += 1
    server.metrics.count("realtime_sessions")
    try:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        session = RealtimeSession(
            server.serving,
            served,
            name,
            not older,
            server.settings.most_prompt_letters,
            socket.send_text,
            server.metrics.count,
        )
        await _run(socket, session, server.settings.most_idle_seconds)
    finally:
        server.realtime_sessions -= 1


@other_sockets.websocket("/{path:path}")
async def nowhere(socket: WebSocket) -> None:
    """There is no WebSocket at any other path."""
    rule = "There is no WebSocket at this path: connect to /v1/realtime."
    await _refuse(socket, ApiError(404, rule, code="not_found"))


async def _refuse(socket: WebSocket, error: ApiError) -> None:
    note_reason(socket.scope, error.code)
    await socket.send_denial_response(JSONResponse(error.body(), error.status, error.headers))


def _wanted(socket: WebSocket, server: Server) -> tuple[ServedModel, str]:
    """The model that is asked for, and its name.

    Raises:
        ApiError: there is none, no room, or something else is wanted.
    """
    query = socket.query_params
    if query.get("intent", "transcription") != "transcription":
        raise ApiError(
            400,
            "Unsupported 'intent': transcription is what this server does.",
            param="intent",
            code="unsupported_parameter",
        )
    served = server.serving.pick(query["model"]) if "model" in query else server.serving.default
    if not served.engine.running:
        raise ApiError(503, "The engine is stopping.", code="engine_unavailable")
    if server.realtime_sessions >= server.settings.most_realtime_sessions:
        raise busy("All realtime sessions of this server are taken.", RETRY_SECONDS)
    return served, query.get("model", served.name)


async def _run(socket: WebSocket, session: RealtimeSession, idle: float) -> None:
    """A session from its beginning to the end of the connection."""
    reading = asyncio.create_task(_read(socket, session, idle))
    hearing = asyncio.create_task(session.transcribe())
    try:
        await asyncio.wait({reading, hearing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, hearing):
            if task.done():
                task.result()
    except WebSocketDisconnect:
        pass
    except Exception:
        _LOG.exception("a realtime session failed")
        await _close(socket, FAILED)
    finally:
        for task in (reading, hearing):
            task.cancel()
        await asyncio.gather(reading, hearing, return_exceptions=True)


async def _read(socket: WebSocket, session: RealtimeSession, idle: float) -> None:
    """Take messages until the client leaves or has said nothing for too long."""
    await session.begin()
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), idle)
        except (TimeoutError, asyncio.TimeoutError):
            why = f"Nothing came for {idle:g} s."
            await session.tell(ApiError(408, why, code="session_idle"))
            await _close(socket, POLICY)
            return
        if message["type"] == "websocket.disconnect":
            return
        await session.take(message)


async def _close(socket: WebSocket, code: int) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.close(code)
