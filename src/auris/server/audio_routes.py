"""`/v1/audio`: recordings to text, as in the OpenAI API."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack, ExitStack
from typing import IO

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from auris.server.admission import SHORT_SECONDS, measure
from auris.server.calls import Call, check_options, speakers_of
from auris.server.engine import Priority
from auris.server.errors import ApiError
from auris.server.events import EventStream
from auris.server.middleware import client_of
from auris.server.pools import unless_disconnected
from auris.server.responses import answer, response_of
from auris.server.schema import KEY, RECORDING_ERRORS, TEXTS, Transcript, form, route
from auris.server.state import Server
from auris.server.transcription_request import TranscriptionRequest, TranslationRequest, read_form
from auris.server.upload import form_of
from auris.server.upload_validation import fetch

router = APIRouter(prefix="/v1/audio", tags=["audio"], dependencies=[KEY])


@router.post(
    "/transcriptions",
    **route(Transcript, "The transcript.", *RECORDING_ERRORS, text=(*TEXTS, "text/event-stream")),
    **form(TranscriptionRequest),
)
async def transcriptions(request: Request) -> Response:
    """Transcribe a recording."""
    server: Server = request.app.state.server
    server.gate.check()
    async with AsyncExitStack() as stack:
        data = await stack.enter_async_context(form_of(request))
        fields, upload = read_form(data, TranscriptionRequest)
        call = await _call(request, fields, upload, stack)
        if fields.stream:
            # The upload has to outlive this function.
            return EventStream(server, call, stack.pop_all())
        running = server.pools.calls.submit(call.run)
        transcript = await unless_disconnected(request.receive, running, call.cancelled.set)
    # A long transcript takes a while to write, so it is not written in the event loop.
    body = await server.look(lambda: answer(transcript, fields, call.served.engine.recognizer))
    return response_of(body, fields.response_format)


@router.post(
    "/translations",
    **route(Transcript, "The translation.", *RECORDING_ERRORS, text=TEXTS),
    **form(TranslationRequest),
)
async def translations(request: Request) -> Response:
    """Translate a recording into English: no model here can, so this is always refused."""
    server: Server = request.app.state.server
    async with form_of(request) as data:
        served = server.serving.pick(read_form(data, TranslationRequest)[0].model)
    raise ApiError(
        400,
        f"The model {served.name!r} cannot translate: it writes text in the language of the "
        "speech. Use /v1/audio/transcriptions.",
        param="model",
        code="unsupported_model",
    )


async def opened(
    request: Request, fields: TranscriptionRequest, upload: UploadFile | None, stack: AsyncExitStack
) -> IO[bytes]:
    """The recording of a request, sent with it or downloaded.

    Raises:
        ApiError, AudioError: it cannot be downloaded.
        ClientDisconnected: the client disconnected before.
    """
    if upload is not None:
        return upload.file
    assert fields.url is not None
    server: Server = request.app.state.server
    url, files = fields.url, stack.enter_context(ExitStack())
    cancelled = threading.Event()
    fetching = server.pools.fetch.submit(
        lambda: fetch(url, server.settings, files, cancelled), client_of(request)
    )
    return await unless_disconnected(request.receive, fetching, cancelled.set)


async def _call(
    request: Request, fields: TranscriptionRequest, upload: UploadFile | None, stack: AsyncExitStack
) -> Call:
    """The call of a request whose recording has been measured and admitted."""
    server: Server = request.app.state.server
    served = server.serving.pick(fields.model)
    await server.look(lambda: check_options(served, fields, server.settings.most_prompt_letters))
    file = await opened(request, fields, upload, stack)
    recording = await measure(request, file, fields.diarized, stack)
    if fields.diarized:
        speakers_of(fields, recording.channels)
    stack.enter_context(server.gate.admitted(recording.samples))
    server.metrics.count("audio_seconds_accepted", recording.seconds)
    priority = Priority.SHORT if recording.seconds <= SHORT_SECONDS else Priority.FILE
    return Call(served, fields, recording, priority, server.settings.chunk_seconds)
