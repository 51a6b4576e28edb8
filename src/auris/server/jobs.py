"""Long jobs: what was accepted, how far it is, and what came of it.

Whatever is accepted is on the disk before the caller hears of it. The jobs lie in SQLite; their
audio, segments and answers are files beside it, see `auris.server.job_folder`.

A running job belongs to a process as long as that lives, which a file lock shows, not a clock:
neither a suspended machine nor a changed time takes a job from a process that works at it.

Segments that are done are kept with the fingerprint of everything that shapes them. A process that
continues a job with the same fingerprint recognizes only the others; with another one it starts the
job anew.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from auris.server.errors import ApiError
from auris.server.job_database import JobDatabase
from auris.server.job_folder import (
    StateFolder,
    json_line,
    open_new,
    read_lines,
    settle,
    sync_folder,
    write_file,
)
from auris.server.job_record import COLUMNS, Job, Status, segment_from_json
from auris.server.transcription_request import TranscriptionRequest
from auris.types import Segment

__all__ = ["MOST_ATTEMPTS", "UNSERVED_SECONDS", "JobStore"]

MOST_ATTEMPTS = 5
"""A job at which the server was killed so often without any progress is given up, since it may be
the cause."""

UNSERVED_SECONDS = 30.0
"""How long a job waits for a server of its model, before one takes it whose model only has the same
name. A server that is started again needs less."""


class JobStore:
    """All jobs of a state folder, which several processes may share.

    Args:
        directory: the folder, see `StateFolder`.

    Attributes:
        folder: the one that is used.
        worker: names this process among those that share it.

    Raises:
        OutputError: the folder cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self.folder = StateFolder(directory)
        self.worker = secrets.token_hex(8)
        self._database = JobDatabase(self.folder)
        self._models: dict[str, str] = {}
        self._unserved_since: dict[str, float] = {}
        # Others look at the lock inside of a transaction, so they never see it half made.
        with self._database.changing():
            self._lock = self.folder.lock_worker(self.worker)
        self._remove_strays()

    def close(self) -> None:
        """Let go of the database, and of the jobs of this process."""
        self._database.close()
        self._lock.release()

    def tidy(self) -> None:
        """See `JobDatabase.tidy`."""
        self._database.tidy()

    def expire(self, age: float) -> int:
        """Remove jobs that have been over for `age` seconds, and files that nobody needs.

        Returns:
            how many jobs.
        """
        old = self._database.read("SELECT id FROM jobs WHERE finished < ?", (time.time() - age,))
        for (job,) in old:
            self.delete(job)
        self._remove_strays()
        return len(old)

    def _remove_strays(self) -> None:
        """Remove what a process left that was killed at the wrong moment."""
        rows = self._database.read("SELECT id, status, keeps_recording FROM jobs")
        unfinished = {name for name, status, _ in rows if status in ("queued", "running")}
        recordings = unfinished | {name for name, _, keeps in rows if keeps}
        others = unfinished | {name for name, status, _ in rows if status == "succeeded"}
        self.folder.remove_strays(recordings, others)

    def accept(
        self, owner: str, asked: TranscriptionRequest, model: str, file: IO[bytes], most: int
    ) -> Job:
        """Take a job; when this returns, it will be done.

        Args:
            owner: whose it is.
            asked: the request.
            model: digest of the model that it is for.
            file: the recording.
            most: jobs of one owner that may wait or run.

        Raises:
            ApiError: the owner has too many already.
            OSError, sqlite3.OperationalError: there is no room; nothing stays.
        """
        name = "job_" + secrets.token_hex(16)
        place = self.folder.recording(name)
        try:
            file.seek(0)
            with open_new(place) as copy:
                shutil.copyfileobj(file, copy)
                settle(copy)
            sync_folder(place.parent)
            with self._database.changing() as database:
                (open_jobs,) = database.execute(
                    "SELECT count(*) FROM jobs WHERE owner = ? AND finished IS NULL", (owner,)
                ).fetchone()
                if open_jobs >= most:
                    raise ApiError(
                        429,
                        f"There are {most} jobs waiting or running already, the most for a key.",
                        code="too_many_jobs",
                        headers={"Retry-After": "60"},
                    )
                database.execute(
                    "INSERT INTO jobs (id, owner, created, status, asked, model) "
                    "VALUES (?, ?, ?, 'queued', ?, ?)",
                    (name, owner, time.time(), asked.model_dump_json(), model),
                )
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        found = self.find(name, owner)
        assert found is not None
        return found

    def find(self, job: str, owner: str) -> Job | None:
        """A job of an owner's."""
        query = f"SELECT {COLUMNS} FROM jobs WHERE id = ? AND owner = ?"
        rows = self._database.read(query, (job, owner))
        return Job.from_row(rows[0]) if rows else None

    def listed(self, owner: str, limit: int, after: Job | None = None) -> list[Job]:
        """The owner's jobs, the newest first; those behind `after`, where it is given."""
        query = f"SELECT {COLUMNS} FROM jobs WHERE owner = ?"
        values: tuple[Any, ...] = (owner,)
        if after is not None:
            query += " AND (created, id) < (?, ?)"
            values += (after.created, after.id)
        query += " ORDER BY created DESC, id DESC LIMIT ?"
        return [Job.from_row(row) for row in self._database.read(query, (*values, limit))]

    def counts(self) -> dict[str, int]:
        """How many jobs there are, by status."""
        return dict(self._database.read("SELECT status, count(*) FROM jobs GROUP BY status"))

    def answers(self, job: str) -> dict[str, Any]:
        """The answers of a job that succeeded, by format; none where it was deleted meanwhile."""
        try:
            content: dict[str, Any] = json.loads(self.folder.result(job).read_bytes())
        except FileNotFoundError:
            return {}
        return content

    def segments(self, job: str) -> list[Segment]:
        """The segments of a job that are done, in the order of time."""
        lines, _ = read_lines(self.folder.segments(job))
        return [segment_from_json(line) for line in lines[1:]]

    def cancel(self, job: str) -> None:
        """End a job that is not over; whoever works at it notices."""
        self._end(job, "cancelled", None, "finished IS NULL", ())

    def delete(self, job: str) -> None:
        """Remove a job with all that is known of it."""
        self.folder.remove(job)  # First, since that makes room.
        self._database.delete(lambda d: d.execute("DELETE FROM jobs WHERE id = ?", (job,)))

    # What follows is for those who do the work.

    def claim(self, models: Mapping[str, str], idle: bool = True) -> Job | None:
        """Take the oldest job that waits, or whose process is dead, for a model that is served.

        Args:
            models: digests of the served models, by all names that mean them.
            idle: whether this process does nothing else. A job that was begun before without any
                progress runs alone, so that only it is blamed if the process ends.
        """
        with self._database.changing() as database:
            live = self._live_workers(database)
            self._register(database, models)
            marks = ",".join("?" * len(live))
            rows = database.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE status = 'queued' OR (status = 'running' "
                f"AND worker NOT IN ({marks})) ORDER BY created, id",
                tuple(live),
            ).fetchall()
            served = {digest for digests in live.values() for digest in digests}
            for job in map(Job.from_row, rows):
                model = self._model_for(job, models, served)
                if model is None:
                    continue
                if job.attempts >= MOST_ATTEMPTS:
                    self._give_up(database, job)
                    continue
                if job.attempts and not idle:
                    return None
                database.execute(
                    "UPDATE jobs SET status = 'running', worker = ?, model = ?, "
                    "attempts = attempts + 1 WHERE id = ?",
                    (self.worker, model, job.id),
                )
                query = f"SELECT {COLUMNS} FROM jobs WHERE id = ?"
                return Job.from_row(database.execute(query, (job.id,)).fetchone())
        return None

    def _live_workers(self, database: sqlite3.Connection) -> dict[str, list[str]]:
        """Digests of the models of all processes that live, by their names."""
        live = {self.worker: list(self._models.values())}
        for name, models in database.execute("SELECT id, models FROM workers").fetchall():
            if name == self.worker:
                continue
            if self.folder.is_alive(name):
                live[name] = json.loads(models)
            else:
                database.execute("DELETE FROM workers WHERE id = ?", (name,))
        return live

    def _register(self, database: sqlite3.Connection, models: Mapping[str, str]) -> None:
        """Tell other processes which models this one serves."""
        if models != self._models:
            digests = json.dumps(sorted(set(models.values())))
            row = (self.worker, digests)
            database.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", row)
            self._models = dict(models)

    def _model_for(self, job: Job, models: Mapping[str, str], served: set[str]) -> str | None:
        """The digest of the model to do a job with; None where it is for others."""
        if job.model in models.values():
            return job.model
        if job.model in served:
            self._unserved_since.pop(job.model, None)
            return None
        now = time.monotonic()
        since = self._unserved_since.setdefault(job.model, now)
        # Jobs of earlier versions do not tell their model.
        waited = not job.model or now - since >= UNSERVED_SECONDS
        return models.get(job.asked.model) if waited else None

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
        """The jobs that this process works at."""
        query = "SELECT id FROM jobs WHERE worker = ? AND status = 'running'"
        return {row[0] for row in self._database.read(query, (self.worker,))}

    def recording(self, job: str) -> IO[bytes]:
        """The recording of a job, open."""
        return open(self.folder.recording(job), "rb")

    def measured(self, job: str, seconds: float) -> None:
        """Record how long a job's recording is; to have decoded it to its end is progress."""
        with self._database.changing() as database:
            database.execute(
                "UPDATE jobs SET attempts = CASE WHEN seconds IS NULL THEN 0 ELSE attempts END, "
                "seconds = ? WHERE id = ? AND worker = ?",
                (seconds, job, self.worker),
            )

    def begin(self, job: str, fingerprint: str) -> list[Segment]:
        """Begin to recognize a job, or go on with it.

        Args:
            job: a job of this process's.
            fingerprint: of all that shapes its segments.

        Returns:
            segments that were kept with the same fingerprint; those with another one are removed.
        """
        head = {"fingerprint": fingerprint}
        path = self.folder.segments(job)
        lines, end = read_lines(path)
        if lines[:1] == [head]:
            os.truncate(path, end)
            return [segment_from_json(line) for line in lines[1:]]
        write_file(path, json_line(head))
        with self._database.changing() as database:
            database.execute(
                "UPDATE jobs SET done = 0 WHERE id = ? AND worker = ?", (job, self.worker)
            )
        return []

    def keep(self, job: str, segment: Segment) -> None:
        """Keep a segment that is done; segments come in the order of time.

        Raises:
            OSError: there is no room; nothing of it stays.
        """
        try:
            # Only a file that is there: it is removed when the job is cancelled.
            with open(self.folder.segments(job), "r+b", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    file.write(json_line(asdict(segment)))
                    settle(file)
                except OSError:
                    file.truncate(end)
                    raise
        except FileNotFoundError:
            return

    def progress(self, done: Mapping[str, float]) -> None:
        """Record how many seconds of jobs are done, and that they made progress."""
        with self._database.changing() as database:
            for job, seconds in done.items():
                database.execute(
                    "UPDATE jobs SET done = ?, attempts = 0 WHERE id = ? AND worker = ?",
                    (seconds, job, self.worker),
                )

    def succeed(self, job: str, answers: Mapping[str, Any]) -> None:
        """Record the result, in all formats in which it can be asked for."""
        write_file(self.folder.result(job), json.dumps(answers).encode())
        if not self._end(job, "succeeded", None, "worker = ?", (self.worker,)):
            self.folder.remove(job)

    def fail(self, job: str, error: ApiError) -> None:
        """Record why there is no result."""
        self._end(job, "failed", error, "worker = ?", (self.worker,))

    def release(self, job: str) -> None:
        """Leave a job to others, as it is."""
        with self._database.changing() as database:
            database.execute(
                "UPDATE jobs SET status = 'queued', worker = NULL, attempts = max(0, attempts - 1) "
                "WHERE id = ? AND worker = ? AND status = 'running'",
                (job, self.worker),
            )

    def _end(
        self,
        job: str,
        status: Status,
        error: ApiError | None,
        condition: str,
        values: Iterable[Any],
    ) -> bool:
        """End a job, where it is not over and a condition holds; says whether it did."""
        reason = None if error is None else _error_text(error)
        changed = self._database.delete(
            lambda database: (
                database.execute(
                    "UPDATE jobs SET status = ?, error = ?, finished = ?, worker = NULL, "
                    "done = CASE WHEN ? = 'succeeded' THEN coalesce(seconds, done) ELSE done END "
                    f"WHERE id = ? AND finished IS NULL AND {condition}",
                    (status, reason, time.time(), status, job, *values),
                ).rowcount
            )
        )
        if changed:
            self.folder.recording(job).unlink(missing_ok=True)
            if status != "succeeded":
                self.folder.segments(job).unlink(missing_ok=True)
        return bool(changed)


def _error_text(error: ApiError) -> str:
    return json.dumps(error.body()["error"])
