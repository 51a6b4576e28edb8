"""The jobs of a state folder: accepted, claimed by a process, finished and removed.

An accepted job is on the disk before the caller gets an answer.

A running job belongs to its process as long as the process lives. A file lock shows that, not a
clock, so a suspended machine or a changed clock takes no job from its process.

Finished segments are stored with the fingerprint of everything that shapes them. A process that
continues a job with the same fingerprint recognizes only the other segments; with another one it
begins the job again.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from auris.server.errors import ApiError
from auris.server.jobs.files import JobDatabase, StateFolder, write_file
from auris.server.transcription_request import TranscriptionRequest
from auris.types import Segment

MOST_ATTEMPTS = 5
"""A job fails when the server was killed this often while it made no progress, since the job may be
the cause."""

UNSERVED_SECONDS = 30.0
"""How long a job waits for a server that has exactly its model. Later, a server takes it whose
model has the same name. A server that is started again needs less time."""

COLUMNS = "id, owner, created, status, asked AS request, seconds, done, finished, error, model, \
attempts"


@dataclass(frozen=True)
class Job:
    """A job; times are seconds since 1970, lengths seconds of audio.

    Attributes:
        model: digest of the model that it is for.
        attempts: how often it was begun since it last made progress.
    """

    id: str
    owner: str
    created: float
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    request: TranscriptionRequest
    seconds: float | None
    done: float
    finished: float | None
    error: dict[str, Any] | None
    model: str
    attempts: int

    def to_dict(self) -> dict[str, Any]:
        """The job as the API shows it."""
        return {
            "id": self.id,
            "object": "transcription.job",
            "created_at": int(self.created),
            "finished_at": None if self.finished is None else int(self.finished),
            "status": self.status,
            "model": self.request.model,
            "response_format": self.request.response_format,
            "progress": {
                "seconds_done": round(self.done, 3),
                "seconds_total": None if self.seconds is None else round(self.seconds, 3),
            },
            "error": self.error,
        }


class JobStore:
    """All jobs of a state folder, which several processes may share; `worker` names this one.

    Raises:
        OutputError: the folder cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self.folder = StateFolder(directory)
        self.worker = secrets.token_hex(8)
        self._database = JobDatabase(self.folder)
        self._models: dict[str, str] = {}
        self._unserved_since: dict[str, float] = {}
        # Others look at the lock inside a transaction, so they never see it without its owner.
        with self._database.transaction():
            self._lock = self.folder.lock_worker(self.worker)
        self._remove_unused_files()

    def close(self) -> None:
        """Close the database, and leave the jobs of this process to others."""
        self._database.close()
        self._lock.release()

    def accept(
        self, owner: str, request: TranscriptionRequest, model: str, file: IO[bytes], most: int
    ) -> Job:
        """Store a new job for the model with a digest; when this returns, it will be done.

        Raises:
            ApiError: `most` jobs of the owner wait or run already.
            OSError, sqlite3.OperationalError: the disk is full; nothing stays.
        """
        name = "job_" + secrets.token_hex(16)
        try:
            self.folder.add_recording(name, file)
            added = self._database.change(
                "INSERT INTO jobs (id, owner, created, status, asked, model) "
                "SELECT ?, ?, ?, 'queued', ?, ? WHERE "
                "(SELECT count(*) FROM jobs WHERE owner = ? AND finished IS NULL) < ?",
                (name, owner, time.time(), request.model_dump_json(), model, owner, most),
            )
            if not added:
                raise ApiError(
                    429,
                    f"There are {most} jobs waiting or running already, the most for a key.",
                    code="too_many_jobs",
                    headers={"Retry-After": "60"},
                )
        except BaseException:
            self.folder.remove(name)
            raise
        return self._select("WHERE id = ?", name)[0]

    def find(self, job: str, owner: str) -> Job | None:
        """A job of an owner's."""
        jobs = self._select("WHERE id = ? AND owner = ?", job, owner)
        return jobs[0] if jobs else None

    def listed(self, owner: str, limit: int, after: Job | None = None) -> list[Job]:
        """The owner's jobs, the newest first; those that are older than `after`, if given."""
        order = "ORDER BY created DESC, id DESC LIMIT ?"
        if after is None:
            return self._select(f"WHERE owner = ? {order}", owner, limit)
        older = "WHERE owner = ? AND (created, id) < (?, ?)"
        return self._select(f"{older} {order}", owner, after.created, after.id, limit)

    def counts(self) -> dict[str, int]:
        """How many jobs there are, by status."""
        rows = self._database.read("SELECT status, count(*) FROM jobs GROUP BY status")
        return dict(map(tuple, rows))

    def answers(self, job: str) -> dict[str, Any]:
        """Response bodies of a job that succeeded, by format; none where it was deleted."""
        with suppress(FileNotFoundError):
            return dict(json.loads(self.folder.result(job).read_bytes()))
        return {}

    def segments(self, job: str) -> list[Segment]:
        """The finished segments of a job, in the order of time."""
        _, segments, _ = self.folder.read_segments(job)
        return segments

    def cancel(self, job: str) -> None:
        """End a job that is not finished. The process that works on it notices."""
        self._finish(job, "cancelled")

    def delete(self, job: str) -> None:
        """Remove a job with everything that is known of it."""
        self.folder.remove(job)  # First, since that makes room.
        self._database.change_and_erase("DELETE FROM jobs WHERE id = ?", (job,))

    def expire(self, age: float) -> int:
        """Remove jobs that finished `age` seconds ago or earlier, and unused files; returns how
        many jobs."""
        old = self._database.read("SELECT id FROM jobs WHERE finished < ?", (time.time() - age,))
        for (job,) in old:
            self.delete(job)
        self._remove_unused_files()
        return len(old)

    def erase(self) -> None:
        """Erase what was removed, where another process prevented it until now."""
        self._database.erase()

    def _remove_unused_files(self) -> None:
        rows = self._database.read("SELECT id, status, keeps_recording FROM jobs")
        unfinished = {name for name, status, _ in rows if status in ("queued", "running")}
        recordings = unfinished | {name for name, _, keeps in rows if keeps}
        others = unfinished | {name for name, status, _ in rows if status == "succeeded"}
        self.folder.remove_unused(recordings, others)

    def _select(self, condition: str, *values: Any) -> list[Job]:
        query = f"SELECT {COLUMNS} FROM jobs {condition}"
        return [self._job(row) for row in self._database.read(query, values)]

    def _job(self, row: sqlite3.Row) -> Job:
        """A job with its present progress, which is newer than the row of an unfinished job."""
        values = dict(row)
        values["request"] = _request_from_json(values["request"])
        values["error"] = values["error"] and json.loads(values["error"])
        job = Job(**values)
        if job.finished is not None:
            return job
        done = self.folder.seconds_done(job.id)
        return replace(job, done=done, attempts=job.attempts if done == job.done else 0)

    # What follows is for the processes that do the work.

    def claim(self, models: Mapping[str, str], idle: bool = True) -> Job | None:
        """Take the oldest job that waits, or whose process is dead, for a model that is served.

        Args:
            models: digests of the served models, by all names that mean them.
            idle: whether this process does nothing else. A job that was begun before without any
                progress runs alone, so that only it is blamed if the process ends.
        """
        with self._database.transaction() as database:
            live = self._live_workers(database, models)
            marks = ",".join("?" * len(live))
            rows = database.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE status = 'queued' OR (status = 'running' "
                f"AND worker NOT IN ({marks})) ORDER BY created, id",
                tuple(live),
            ).fetchall()
            served = {digest for digests in live.values() for digest in digests}
            for job in map(self._job, rows):
                model = self._model_for(job, models, served)
                if model is None:
                    continue
                if job.attempts >= MOST_ATTEMPTS:
                    self._give_up(database, job)
                    continue
                if job.attempts and not idle:
                    return None
                attempts = job.attempts + 1
                database.execute(
                    "UPDATE jobs SET status = 'running', worker = ?, model = ?, attempts = ?, "
                    "done = ? WHERE id = ?",
                    (self.worker, model, attempts, job.done, job.id),
                )
                return replace(job, status="running", model=model, attempts=attempts)
        return None

    def _live_workers(
        self, database: sqlite3.Connection, models: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """Digests of the models of all processes that live, by their names."""
        if models != self._models:
            row = (self.worker, json.dumps(sorted(set(models.values()))))
            database.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", row)
            self._models = dict(models)
        live = {self.worker: list(models.values())}
        for name, digests in database.execute("SELECT id, models FROM workers").fetchall():
            if name == self.worker:
                continue
            if self.folder.is_alive(name):
                live[name] = json.loads(digests)
            else:
                database.execute("DELETE FROM workers WHERE id = ?", (name,))
        return live

    def _model_for(self, job: Job, models: Mapping[str, str], served: set[str]) -> str | None:
        """The digest of the model to do a job with; None where it is for other processes."""
        if job.model in models.values():
            return job.model
        if job.model in served:
            self._unserved_since.pop(job.model, None)
            return None
        now = time.monotonic()
        since = self._unserved_since.setdefault(job.model, now)
        # Jobs of earlier versions do not name their model's digest.
        waited = not job.model or now - since >= UNSERVED_SECONDS
        return models.get(job.request.model) if waited else None

    def _give_up(self, database: sqlite3.Connection, job: Job) -> None:
        """Fail a job that seems to end the process; its recording stays until it is deleted."""
        error = ApiError(
            500, "The server ended each time it worked at this job.", code="job_crashed"
        )
        database.execute(
            "UPDATE jobs SET status = 'failed', error = ?, finished = ?, worker = NULL, "
            "keeps_recording = 1 WHERE id = ?",
            (_error_text(error), time.time(), job.id),
        )
        self.folder.segments(job.id).unlink(missing_ok=True)

    def mine(self) -> set[str]:
        """The jobs that this process works on."""
        query = "SELECT id FROM jobs WHERE worker = ? AND status = 'running'"
        return {row[0] for row in self._database.read(query, (self.worker,))}

    def recording(self, job: str) -> IO[bytes]:
        """The recording of a job, open."""
        return open(self.folder.recording(job), "rb")

    def set_length(self, job: str, seconds: float) -> None:
        """Record how long a job's recording is. To have decoded it to its end is progress."""
        self._database.change(
            "UPDATE jobs SET attempts = CASE WHEN seconds IS NULL THEN 0 ELSE attempts END, "
            "seconds = ? WHERE id = ? AND worker = ?",
            (seconds, job, self.worker),
        )

    def begin(self, job: str, fingerprint: str) -> list[Segment]:
        """Begin to recognize a job, or continue it.

        Returns:
            stored segments with the same fingerprint; those with another one are removed.
        """
        stored_fingerprint, segments, size = self.folder.read_segments(job)
        if stored_fingerprint == fingerprint:
            os.truncate(self.folder.segments(job), size)
            return segments
        self.folder.begin_segments(job, fingerprint)
        self._database.change(
            "UPDATE jobs SET done = 0 WHERE id = ? AND worker = ?", (job, self.worker)
        )
        return []

    def add_segment(self, job: str, segment: Segment) -> None:
        """Store a finished segment, which is progress; segments come in the order of time.

        Raises:
            OSError: the disk is full; nothing of the segment stays.
        """
        with suppress(FileNotFoundError):  # The file is removed when the job is cancelled.
            self.folder.add_segment(job, segment)

    def succeed(self, job: str, answers: Mapping[str, Any]) -> None:
        """Store the response bodies, in all formats that a caller may choose."""
        write_file(self.folder.result(job), json.dumps(answers).encode())
        if not self._finish(job, "succeeded", worker=self.worker):
            self.folder.remove(job)

    def fail(self, job: str, error: ApiError) -> None:
        """Record why there is no result."""
        self._finish(job, "failed", error, self.worker)

    def release(self, job: str) -> None:
        """Leave a job to other processes, as it is."""
        self._database.change(
            "UPDATE jobs SET status = 'queued', worker = NULL, attempts = max(0, attempts - 1) "
            "WHERE id = ? AND worker = ? AND status = 'running'",
            (job, self.worker),
        )

    def _finish(
        self, job: str, status: str, error: ApiError | None = None, worker: str | None = None
    ) -> bool:
        """Finish an unfinished job, of `worker` if given; returns whether it did."""
        text = None if error is None else _error_text(error)
        done = self.folder.seconds_done(job)
        changed = self._database.change_and_erase(
            "UPDATE jobs SET status = ?1, error = ?2, finished = ?3, worker = NULL, "
            "done = CASE WHEN ?1 = 'succeeded' THEN coalesce(seconds, ?4) ELSE ?4 END "
            "WHERE id = ?5 AND finished IS NULL AND (?6 IS NULL OR worker = ?6)",
            (status, text, time.time(), done, job, worker),
        )
        if changed:
            self.folder.recording(job).unlink(missing_ok=True)
            if status != "succeeded":
                self.folder.segments(job).unlink(missing_ok=True)
        return bool(changed)


def _request_from_json(text: str) -> TranscriptionRequest:
    """The request of a job. Earlier versions had other fields."""
    fields = json.loads(text)
    if "context" in fields:
        words, segments = fields.pop("words"), fields.pop("segments")
        fields |= {
            "prompt": fields.pop("context"),
            "chunking_strategy": "auto" if fields.pop("vad") else None,
            "include": ["logprobs"] if fields.pop("logprobs") else [],
            "known_speaker_names": fields.pop("speakers"),
            "timestamp_granularities": ["word", "segment"][: 1 + segments] if words else [],
        }
    return TranscriptionRequest.model_validate(fields)


def _error_text(error: ApiError) -> str:
    return json.dumps(error.body()["error"])
