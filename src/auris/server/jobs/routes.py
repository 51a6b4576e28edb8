"""`/v1/jobs`: recordings too long to wait for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.admission import decode
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
    settings = server.settings
    async with AsyncExitStack() as stack:
        data = await stack.enter_async_context(form_of(request))
        fields, upload = read_form(data, TranscriptionRequest)
        if fields.stream:
            raise unsupported("stream", "the result of a job cannot be streamed")
        served = server.serving.pick(fields.model)
        await server.look(lambda: check_options(served, fields, settings.most_prompt_letters))
        file = await opened(request, fields, upload, stack)
        channels = await decode(request, file, lambda context: checked(file, context))
        if fields.diarized:
            speakers_of(fields, channels)
        owner, most = owner_of(request.scope), settings.most_jobs
        job = await server.pools.disk.run(
            lambda: server.store.accept(owner, fields, served.digest, file, most)
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
    last = None if after is None else await _job(request, after, "after")
    jobs = await server.look(lambda: server.store.listed(owner, limit, last))
    return {"object": "list", "data": [job.to_dict() for job in jobs]}


@router.get("/{job_id}", **route(JobObject, "The job.", 404, 507))
async def status(request: Request, job_id: str) -> dict[str, Any]:
    """The status and progress of a job."""
    return (await _job(request, job_id)).to_dict()


@router.get(
    "/{job_id}/segments", **route(ObjectList[VerboseSegment], "The finished segments.", 404, 507)
)
async def segments(
    request: Request, job_id: str, after: Annotated[int, Query(ge=0, le=1 << 31)] = 0
) -> dict[str, Any]:
    """The finished segments, in the order of time, without the first `after` of them."""
    server: Server = request.app.state.server
    job = await _job(request, job_id)
    finished = await server.look(lambda: server.store.segments(job.id))
    numbered = list(enumerate(finished))[after:]
    shown = [segment_with_words(number, segment, job.request) for number, segment in numbered]
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
    job = await _job(request, job_id)
    if job.status == "failed":
        error = job.error or {}
        raise ApiError(
            409, str(error.get("message")), param=error.get("param"), code=error.get("code")
        )
    if job.status != "succeeded":
        raise ApiError(409, f"The job has no result: it is {job.status}.", code="job_not_done")
    bodies = await server.look(lambda: server.store.answers(job.id))
    name = response_format or job.request.response_format
    if name not in bodies:
        raise _not_found("job_id")
    return response_of(bodies[name], name)


@router.post("/{job_id}/cancel", **route(JobObject, "The job.", 404, 507))
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """End a job; a finished one does not change."""
    server: Server = request.app.state.server
    job = await _job(request, job_id)
    await server.look(lambda: server.store.cancel(job.id))
    server.jobs.abandon(job.id)
    return (await _job(request, job_id)).to_dict()


@router.delete("/{job_id}", **route(DeletedJob, "The job was deleted.", 404, 507))
async def delete(request: Request, job_id: str) -> dict[str, Any]:
    """Remove a job, its recording and its result."""
    server: Server = request.app.state.server
    job = await _job(request, job_id)
    await server.look(lambda: server.store.delete(job.id))
    server.jobs.abandon(job.id)
    return {"id": job.id, "object": "transcription.job.deleted", "deleted": True}


async def _job(request: Request, job_id: str, param: str = "job_id") -> Job:
    """The caller's job that a parameter names; jobs of other callers do not exist for it."""
    server: Server = request.app.state.server
    owner = owner_of(request.scope)
    job = await server.look(lambda: server.store.find(job_id, owner))
    if job is None:
        raise _not_found(param)
    return job


def _not_found(param: str) -> ApiError:
    return ApiError(404, "There is no such job.", param=param, code="job_not_found")
