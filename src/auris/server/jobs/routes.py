"""`/v1/jobs`: recordings too long to wait for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.audio_routes import submission
from auris.server.errors import ApiError, unsupported
from auris.server.formats import CommonFormat
from auris.server.jobs.store import Job
from auris.server.middleware import owner_of
from auris.server.responses import response_of, segment_with_words
from auris.server.schema import (
    KEY,
    RECORDING_ERRORS,
    TEXT_TYPES,
    DeletedJob,
    JobObject,
    ObjectList,
    Transcript,
    VerboseSegment,
    form,
    route,
)
from auris.server.speakers import speakers_of
from auris.server.state import Server, ServerDep
from auris.server.transcription_request import TranscriptionRequest
from auris.server.upload_validation import checked, decode_in_lanes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[KEY])


async def _find(request: Request, server: Server, job_id: str, param: str = "job_id") -> Job:
    """The caller's job that a parameter names; jobs of other callers do not exist for it."""
    owner = owner_of(request.scope)
    job = await server.pools.quick.run(lambda: server.store.find(job_id, owner))
    if job is None:
        raise _not_found(param)
    return job


async def _job_of_path(request: Request, server: ServerDep, job_id: str) -> Job:
    return await _find(request, server, job_id)


JobDep = Annotated[Job, Depends(_job_of_path)]
"""For routes without a query. FastAPI would look for the job before it checks the query, and the
error of the query has to come first."""


@router.post(
    "",
    **route(JobObject, "The job was accepted.", *RECORDING_ERRORS, status=202),
    **form(TranscriptionRequest, "stream", "formats[]"),
)
async def create(request: Request, server: ServerDep) -> Response:
    """Hand in a recording; the fields are those of a transcription, without `stream`."""
    async with AsyncExitStack() as stack:
        fields, served, file = await submission(request, server, stack, may_stream=False)
        if fields.known_speaker_references:
            reason = "jobs know no voices: use /v1/audio/transcriptions"
            raise unsupported("known_speaker_references[]", reason)
        channels = await decode_in_lanes(request, file, lambda context: checked(file, context))
        await server.pools.calls.run(lambda: speakers_of(fields, channels, served.diarizer))
        owner, most = owner_of(request.scope), server.settings.most_jobs
        job = await server.pools.disk.run(
            lambda: server.store.accept(owner, fields, served.digest, file, most)
        )
    server.jobs.wake()
    server.metrics.count("jobs_accepted")
    return JSONResponse(job.to_dict(), 202)


@router.get("", **route(ObjectList[JobObject], "The jobs of this key.", 404, 507))
async def listed(
    request: Request,
    server: ServerDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> dict[str, Any]:
    """The caller's jobs, the newest first; `after` one of them, those that are older."""
    owner = owner_of(request.scope)
    last = None if after is None else await _find(request, server, after, "after")
    jobs = await server.pools.quick.run(lambda: server.store.listed(owner, limit, last))
    return {"object": "list", "data": [job.to_dict() for job in jobs]}


@router.get("/{job_id}", **route(JobObject, "The job.", 404, 507))
async def status(job: JobDep) -> dict[str, Any]:
    """The status and progress of a job."""
    return job.to_dict()


@router.get(
    "/{job_id}/segments", **route(ObjectList[VerboseSegment], "The finished segments.", 404, 507)
)
async def segments(
    request: Request,
    server: ServerDep,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
) -> dict[str, Any]:
    """The finished segments, in the order of time, without the first `after` of them."""
    job = await _find(request, server, job_id)
    finished = await server.pools.quick.run(lambda: server.store.segments(job.id))
    numbered = list(enumerate(finished))[after:]
    shown = [segment_with_words(number, segment, job.request) for number, segment in numbered]
    return {"object": "list", "data": shown}


@router.get(
    "/{job_id}/result", **route(Transcript, "The transcript.", 404, 409, 507, text=TEXT_TYPES)
)
async def result(
    request: Request,
    server: ServerDep,
    job_id: str,
    response_format: CommonFormat | None = None,
) -> Response:
    """The result of a job, as a transcription would have answered; `response_format` chooses
    another format than that of the job."""
    job = await _find(request, server, job_id)
    if job.status == "failed":
        error = job.error or {}
        raise ApiError(
            409, str(error.get("message")), param=error.get("param"), code=error.get("code")
        )
    if job.status != "succeeded":
        raise ApiError(409, f"The job has no result: it is {job.status}.", code="job_not_done")
    bodies = await server.pools.quick.run(lambda: server.store.answers(job.id))
    name = response_format or job.request.response_format
    if name not in bodies:
        raise _not_found("job_id")
    return response_of(bodies[name], name)


@router.post("/{job_id}/cancel", **route(JobObject, "The job.", 404, 507))
async def cancel(request: Request, job: JobDep, server: ServerDep) -> dict[str, Any]:
    """End a job; a finished one does not change."""
    await _end(job, server, server.store.cancel)
    return (await _find(request, server, job.id)).to_dict()


@router.delete("/{job_id}", **route(DeletedJob, "The job was deleted.", 404, 507))
async def delete(job: JobDep, server: ServerDep) -> dict[str, Any]:
    """Remove a job, its recording and its result."""
    await _end(job, server, server.store.delete)
    return {"id": job.id, "object": "transcription.job.deleted", "deleted": True}


async def _end(job: Job, server: Server, change: Callable[[str], None]) -> None:
    await server.pools.quick.run(lambda: change(job.id))
    server.jobs.abandon(job.id)


def _not_found(param: str) -> ApiError:
    return ApiError(404, "There is no such job.", param=param, code="job_not_found")
