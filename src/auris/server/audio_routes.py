"""`/v1/audio`: recordings to text, as in the OpenAI API."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, ExitStack
from typing import IO, Any

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.calls import DIARIZED, Call, check_options, speakers_of
from auris.server.engine_queue import SHORT_SECONDS, Priority
from auris.server.errors import ApiError
from auris.server.events import EventStream
from auris.server.measuring import measure
from auris.server.presence import unless_left
from auris.server.responses import CONTENT_TYPES, answer
from auris.server.schema import KEY, TRANSCRIPTION, TRANSLATION
from auris.server.state import Server
from auris.server.transcription_request import (
    TranscriptionRequest,
    parse_transcription_request,
    parse_translation_request,
)
from auris.server.upload import form_of
from auris.server.upload_validation import fetch

__all__ = ["opened", "response_of", "router"]

router = APIRouter(prefix="/v1/audio", tags=["audio"], dependencies=[KEY])


@router.post("/transcriptions", **TRANSCRIPTION)
async def transcriptions(request: Request) -> Response:
    """Transcribe a recording."""
    server: Server = request.app.state.server
    server.gate.check()
    async with AsyncExitStack() as held:
        form = await held.enter_async_context(form_of(request))
        asked, upload = parse_transcription_request(form, server.settings.most_prompt_letters)
        call = await _call(request, asked, upload, held)
        if asked.stream:
            # The upload has to outlive this function.
            return EventStream(server, call, held.pop_all())
        running = asyncio.wrap_future(server.pools.calls.submit(call.run))
        transcript = await unless_left(request.receive, running, call.cancelled.set)
    recognizer = call.served.engine.recognizer
    # A long transcript takes a while to write, which is not the event loop's.
    body = await server.look(lambda: answer(transcript, call.asked, recognizer))
    return response_of(body, call.asked.response_format)


@router.post("/translations", **TRANSLATION)
async def translations(request: Request) -> Response:
    """Translate a recording into English: no model here can, so this says so."""
    server: Server = request.app.state.server
    async with form_of(request) as form:
        served = server.serving.pick(parse_translation_request(form))
    raise ApiError(
        400,
        f"The model {served.name!r} writes what is said in the language in which it is said; "
        "it cannot translate.",
        param="model",
        code="unsupported_model",
    )


async def opened(
    request: Request, asked: TranscriptionRequest, upload: UploadFile | None, held: AsyncExitStack
) -> IO[bytes]:
    """The recording of a request, sent with it or fetched.

    Raises:
        ApiError, AudioError: there is none.
        ClientDisconnected: the caller left before.
    """
    if upload is not None:
        return upload.file
    assert asked.url is not None
    server: Server = request.app.state.server
    url, files = asked.url, held.enter_context(ExitStack())
    cancelled = threading.Event()
    fetching = server.pools.fetch.submit(lambda: fetch(url, server.settings, files, cancelled))
    return await unless_left(request.receive, asyncio.wrap_future(fetching), cancelled.set)


async def _call(
    request: Request, asked: TranscriptionRequest, upload: UploadFile | None, held: AsyncExitStack
) -> Call:
    """A request whose recording has been measured and admitted."""
    server: Server = request.app.state.server
    served = server.serving.pick(asked.model)
    await server.look(lambda: check_options(served, asked))
    file = await opened(request, asked, upload, held)
    apart = asked.response_format == DIARIZED
    recording = await measure(request, file, apart, held)
    if apart:
        speakers_of(asked, recording.channels)
    held.enter_context(server.gate.admitted(recording.samples))
    server.metrics.count("audio_seconds_accepted", recording.seconds)
    priority = Priority.SHORT if recording.seconds <= SHORT_SECONDS else Priority.FILE
    return Call(served, asked, recording, priority, server.settings.chunk_seconds)


def response_of(body: dict[str, Any] | str, response_format: str) -> Response:
    """A body as the response in its format."""
    if isinstance(body, str):
        return Response(body, media_type=CONTENT_TYPES[response_format])
    return JSONResponse(body)
