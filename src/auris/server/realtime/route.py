"""`/v1/realtime`: who gets a session, and how one ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from auris.server.errors import ApiError, busy, unsupported
from auris.server.middleware import note_reason
from auris.server.realtime.session import RealtimeSession
from auris.server.state import Server, ServerDep

router = APIRouter()
other_paths = APIRouter()

SUBPROTOCOL = "realtime"
OLDER_SUBPROTOCOL = "openai-beta.realtime-v1"
OLDER_HEADER = ("openai-beta", "realtime=v1")

POLICY, FAILED = 1008, 1011
"""Close codes: against a rule of the server, and a failure of it."""

RETRY_SECONDS = 10
"""When a refused client may connect again."""

_LOG = logging.getLogger(__name__)


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket, server: ServerDep) -> None:
    """A session of live transcription."""
    try:
        model = _requested_model(socket, server)
    except ApiError as error:
        await _refuse(socket, error)
        return
    offered: Sequence[str] = socket.scope["subprotocols"]
    older = OLDER_SUBPROTOCOL in offered or socket.headers.get(OLDER_HEADER[0]) == OLDER_HEADER[1]
    server.realtime_sessions += 1
    server.metrics.count("realtime_sessions")
    try:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        session = RealtimeSession(server, model, not older, socket.send_text)
        await _run(socket, session, server.settings.most_idle_seconds)
    finally:
        server.realtime_sessions -= 1


@other_paths.websocket("/{path:path}")
async def not_found(socket: WebSocket) -> None:
    """There is no WebSocket at any other path."""
    rule = "There is no WebSocket at this path: connect to /v1/realtime."
    await _refuse(socket, ApiError(404, rule, code="not_found"))


async def _refuse(socket: WebSocket, error: ApiError) -> None:
    note_reason(socket.scope, error.code)
    await socket.send_denial_response(error.response())


def _requested_model(socket: WebSocket, server: Server) -> str:
    """The name of the model that a client requests, where a session of it is possible."""
    query = socket.query_params
    if query.get("intent", "transcription") != "transcription":
        raise unsupported("intent", "this server has transcription sessions only")
    name = query.get("model", server.models.default.name)
    if not server.models.pick(name).engine.running:
        raise ApiError(503, "The engine is stopping.", code="engine_unavailable")
    if server.realtime_sessions >= server.settings.most_realtime_sessions:
        raise busy("All realtime sessions of this server are in use.", RETRY_SECONDS)
    return name


async def _run(socket: WebSocket, session: RealtimeSession, idle: float) -> None:
    """A session from its beginning to the end of the connection."""
    tasks = {
        asyncio.create_task(_read(socket, session, idle)),
        asyncio.create_task(session.transcribe()),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except WebSocketDisconnect:
        pass
    except Exception:  # Any fault of the program: the client gets a close code of its own.
        _LOG.exception("a realtime session failed")
        await _close(socket, FAILED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(socket: WebSocket, session: RealtimeSession, idle: float) -> None:
    """Handle messages until the client disconnects or is silent for too long."""
    await session.begin()
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), idle)
        except (TimeoutError, asyncio.TimeoutError):
            silence = f"The client sent nothing for {idle:g} s."
            await session.send_error(ApiError(408, silence, code="session_idle"))
            await _close(socket, POLICY)
            return
        if message["type"] == "websocket.disconnect":
            return
        await session.handle(message)


async def _close(socket: WebSocket, code: int) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.close(code)
