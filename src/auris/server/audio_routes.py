"""`/v1/audio`: recordings to text, as in the OpenAI API."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import IO

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from auris.server.admission import SHORT_SECONDS
from auris.server.calls import Call, check_options
from auris.server.engine import Priority
from auris.server.errors import ApiError, unsupported
from auris.server.events import EventStream
from auris.server.model_registry import ServedModel
from auris.server.pools import unless_disconnected
from auris.server.responses import answer, response_of
from auris.server.schema import KEY, RECORDING_ERRORS, TEXT_TYPES, Transcript, form, route
from auris.server.speakers import read_references, speakers_of
from auris.server.state import ServerDep
from auris.server.transcription_request import TranscriptionRequest, TranslationRequest, read_form
from auris.server.upload import form_of
from auris.server.upload_validation import decode_in_lanes, measured, opened

router = APIRouter(prefix="/v1/audio", tags=["audio"], dependencies=[KEY])


@router.post(
    "/transcriptions",
    **route(
        Transcript, "The transcript.", *RECORDING_ERRORS, text=(*TEXT_TYPES, "text/event-stream")
    ),
    **form(TranscriptionRequest),
)
async def transcriptions(request: Request, server: ServerDep) -> Response:
    """Transcribe a recording."""
    server.gate.check()
    async with AsyncExitStack() as stack:
        fields, served, file = await submission(request, server, stack)
        files = stack.enter_context(ExitStack())
        references = await read_references(request, fields, files)
        recording = await decode_in_lanes(
            request, file, lambda context: measured(file, fields.may_split, context, files)
        )
        stack.enter_context(server.gate.admitted(recording.samples))
        server.metrics.count("audio_seconds_accepted", recording.seconds)
        finding = server.pools.calls.submit(
            lambda: speakers_of(fields, recording.channels, served.diarizer, references)
        )
        speakers = await unless_disconnected(request.receive, finding)
        priority = Priority.SHORT if recording.seconds <= SHORT_SECONDS else Priority.FILE
        seconds = server.settings.chunk_seconds
        call = Call(served, fields, recording, priority, seconds, speakers)
        if fields.stream:
            # The upload has to outlive this function.
            return EventStream(server, call, stack.pop_all())
        running = server.pools.calls.submit(call.run)
        transcript = await unless_disconnected(request.receive, running, call.cancelled.set)
    # A long transcript takes a while to write, so it is not written in the event loop.
    body = await server.pools.quick.run(
        lambda: answer(transcript, fields, served.engine.recognizer)
    )
    return response_of(body, fields.response_format)


@router.post(
    "/translations",
    **route(Transcript, "The translation.", *RECORDING_ERRORS, text=TEXT_TYPES),
    **form(TranslationRequest),
)
async def translations(request: Request, server: ServerDep) -> Response:
    """Translate a recording into English: no model here can, so this is always refused."""
    async with form_of(request) as data:
        served = server.models.pick(read_form(data, TranslationRequest)[0].model)
    raise ApiError(
        400,
        f"The model {served.name!r} cannot translate: it writes text in the language of the "
        "speech. Use /v1/audio/transcriptions.",
        param="model",
        code="unsupported_model",
    )


async def submission(
    request: Request, server: ServerDep, stack: AsyncExitStack, may_stream: bool = True
) -> tuple[TranscriptionRequest, ServedModel, IO[bytes]]:
    """What a request asks for, with its model and its recording, which `stack` closes.

    Raises:
        ApiError, AurisError: a field or the recording is wrong or not supported.
        ClientDisconnected: the client has disconnected.
    """
    data = await stack.enter_async_context(form_of(request))
    fields, upload = read_form(data, TranscriptionRequest)
    if fields.stream and not may_stream:
        raise unsupported("stream", "the result of a job cannot be streamed")
    served = server.models.pick(fields.model)
    await server.pools.quick.run(
        lambda: check_options(served, fields, server.settings.most_prompt_letters)
    )
    return served.fitted(fields), served, await opened(request, fields.url, upload, stack)
