"""`/v1/jobs`: recordings too long to wait for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.audio_routes import opened
from auris.server.calls import check_options, speakers_of
from auris.server.errors import ApiError, unsupported
from auris.server.jobs.store import Job
from auris.server.middleware import owner_of
from auris.server.responses import response_of, segment_with_words
from auris.server.schema import (
    KEY,
    RECORDING_ERRORS,
    TEXTS,
    DeletedJob,
    JobObject,
    ObjectList,
    Transcript,
    VerboseSegment,
    form,
    route,
)
from auris.server.state import Server
from auris.server.transcription_request import TranscriptionRequest, read_form
from auris.server.upload import form_of
from auris.server.upload_validation import checked

__all__ = ["router"]

ResultFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
"""Formats in which the result of any job can be fetched."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[KEY])


@router.post(
    "",
    **route(JobObject, "The job was accepted.", *RECORDING_ERRORS, status=202),
    **form(TranscriptionRequest, "stream", "formats[]"),
)
async def create(request: Request) -> Response:
    """Hand in a recording; the fields are those of a transcription, without `stream`."""
    server: Server = request.app.state.server
    async with AsyncExitStack() as held:
        data = await held.enter_async_context(form_of(request))
        asked, upload = read_form(data, TranscriptionRequest)
        if asked.stream:
            raise unsupported("stream", "the result of a job cannot be streamed")
        served = server.serving.pick(asked.model)
        await server.look(lambda: check_options(served, asked, server.settings.most_prompt_letters))
        file = await opened(request, asked, upload, held)
        channels = await server.pools.short.run(
            lambda: checked(file, server.settings, server.decoders)
        )
        if asked.diarized:
            speakers_of(asked, channels)
        owner, most = owner_of(request.scope), server.settings.most_jobs
        job = await server.pools.disk.run(
            lambda: server.store.accept(owner, asked, served.digest, file, most)
        )
    server.jobs.wake()
    server.metrics.count("jobs_accepted")
    return JSONResponse(job.to_dict(), 202)


@router.get("", **route(ObjectList[JobObject], "The jobs of this key.", 404, 507))
async def listed(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> dict[str, Any]:
    """The caller's jobs, the newest first; `after` one of them, those that are older."""
    server: Server = request.app.state.server
    owner = owner_of(request.scope)
    last = None if after is None else await _found(request, after, "after")
    found = await server.look(lambda: server.store.listed(owner, limit, last))
    return {"object": "list", "data": [job.to_dict() for job in found]}


@router.get("/{job_id}", **route(JobObject, "The job.", 404, 507))
async def status(request: Request, job_id: str) -> dict[str, Any]:
    """How far a job is."""
    return (await _found(request, job_id)).to_dict()


@router.get(
    "/{job_id}/segments", **route(ObjectList[VerboseSegment], "The finished segments.", 404, 507)
)
async def segments(
    request: Request, job_id: str, after: Annotated[int, Query(ge=0, le=1 << 31)] = 0
) -> dict[str, Any]:
    """The segments that are done, in the order of time, without the first `after` of them."""
    server: Server = request.app.state.server
    job = await _found(request, job_id)
    done = await server.look(lambda: server.store.segments(job.id))
    shown = [
        segment_with_words(number, segment, job.request)
        for number, segment in enumerate(done)
        if number >= after
    ]
    return {"object": "list", "data": shown}


@router.get("/{job_id}/result", **route(Transcript, "The transcript.", 404, 409, 507, text=TEXTS))
async def result(
    request: Request,
    job_id: str,
    response_format: Annotated[ResultFormat | None, Query()] = None,
) -> Response:
    """The result of a job, as a transcription would have answered; `response_format` chooses
    another format than that of the job."""
    server: Server = request.app.state.server
    job = await _found(request, job_id)
    if job.status == "failed":
        error = job.error or {}
        raise ApiError(
            409, str(error.get("message")), param=error.get("param"), code=error.get("code")
        )
    if job.status != "succeeded":
        raise ApiError(409, f"The job has no result: it is {job.status}.", code="job_not_done")
    bodies = await server.look(lambda: server.store.answers(job.id))
    wanted = response_format or job.request.response_format
    if wanted not in bodies:
        raise _not_found("job_id")
    return response_of(bodies[wanted], wanted)


@router.post("/{job_id}/cancel", **route(JobObject, "The job.", 404, 507))
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """End a job; one that is over stays as it is."""
    server: Server = request.app.state.server
    job = await _found(request, job_id)
    await server.look(lambda: server.store.cancel(job.id))
    server.jobs.abandon(job.id)
    return (await _found(request, job_id)).to_dict()


@router.delete("/{job_id}", **route(DeletedJob, "The job was deleted.", 404, 507))
async def delete(request: Request, job_id: str) -> dict[str, Any]:
    """Remove a job, its recording and its result."""
    server: Server = request.app.state.server
    job = await _found(request, job_id)
    await server.look(lambda: server.store.delete(job.id))
    server.jobs.abandon(job.id)
    return {"id": job.id, "object": "transcription.job.deleted", "deleted": True}


async def _found(request: Request, job_id: str, param: str = "job_id") -> Job:
    """The caller's job that a parameter names; others' are not there for it."""
    server: Server = request.app.state.server
    owner = owner_of(request.scope)
    job = await server.look(lambda: server.store.find(job_id, owner))
    if job is None:
        raise _not_found(param)
    return job


def _not_found(param: str) -> ApiError:
    return ApiError(404, "There is no such job.", param=param, code="job_not_found")
