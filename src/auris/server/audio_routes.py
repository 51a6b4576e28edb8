"""`/v1/audio`: recordings to text, as in the OpenAI API."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import IO

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.answers import CONTENT_TYPES, answer
from auris.server.calls import DIARIZED, Call, check_options, speakers_of
from auris.server.engine import Priority
from auris.server.events import EventStream
from auris.server.failures import ApiError
from auris.server.form import Asked, asked_of, translation_of
from auris.server.intake import fetch, measured
from auris.server.schema import KEY, TRANSCRIPTION, TRANSLATION
from auris.server.serving import Served
from auris.server.state import Server
from auris.server.upload import form_of
from auris.types import Transcript

__all__ = ["opened", "rendered", "router"]

router = APIRouter(prefix="/v1/audio", tags=["audio"], dependencies=[KEY])


@router.post("/transcriptions", **TRANSCRIPTION)
async def transcriptions(request: Request) -> Response:
    """Transcribe a recording."""
    server: Server = request.app.state.server
    server.gate.check()
    async with AsyncExitStack() as held:
        form = await held.enter_async_context(form_of(request))
        asked, upload = asked_of(form, server.settings.most_prompt_letters)
        call = await _call(server, asked, upload, held)
        if asked.stream:
            # The upload has to outlive this function.
            return EventStream(server, call, held.pop_all())
        transcript = await server.finished(call, request)
    return rendered(transcript, call.asked, call.served)


@router.post("/translations", **TRANSLATION)
async def translations(request: Request) -> Response:
    """Translate a recording into English: no model here can, so this says so."""
    server: Server = request.app.state.server
    async with form_of(request) as form:
        served = server.serving.pick(translation_of(form))
    raise ApiError(
        400,
        f"The model {served.name!r} writes what is said in the language in which it is said; "
        "it cannot translate.",
        param="model",
        code="unsupported_model",
    )


async def opened(
    server: Server, asked: Asked, upload: UploadFile | None, held: AsyncExitStack
) -> IO[bytes]:
    """The recording of a request, sent with it or fetched.

    Raises:
        ApiError, AudioError: there is none.
    """
    if upload is not None:
        return upload.file
    assert asked.url is not None
    url, files = asked.url, held.enter_context(ExitStack())
    return await server.look(lambda: fetch(url, server.settings, files))


async def _call(
    server: Server, asked: Asked, upload: UploadFile | None, held: AsyncExitStack
) -> Call:
    """A request whose recording has been measured and admitted."""
    served = server.serving.pick(asked.model)
    await server.look(lambda: check_options(served, asked))
    file = await opened(server, asked, upload, held)
    apart = asked.response_format == DIARIZED
    files = held.enter_context(ExitStack())
    recording = await server.look(
        lambda: measured(file, server.settings, apart, server.decoders, files)
    )
    if apart:
        speakers_of(asked, recording.channels)
    held.enter_context(server.gate.admitted(recording.seconds))
    server.metrics.count("audio_seconds_accepted", recording.seconds)
    return Call(served, asked, recording, Priority.FILE, server.settings.chunk_seconds)


def rendered(transcript: Transcript, asked: Asked, served: Served) -> Response:
    """A transcript as the response that was asked for."""
    content = answer(transcript, asked, served.engine.recognizer)
    if isinstance(content, str):
        return Response(content, media_type=CONTENT_TYPES[asked.response_format])
    return JSONResponse(content)
