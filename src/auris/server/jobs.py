"""Long jobs: what was accepted, how far it is, and what came of it, in SQLite.

Whatever is accepted is on the disk before the caller hears of it, its recording as a file beside
the database. A running job belongs to a worker for a short time only, which that worker keeps
renewing; so the jobs of a worker that was killed are soon anybody's. Pieces that are done are kept,
and whoever continues a job does the others.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from auris.errors import OutputError
from auris.server.failures import ApiError
from auris.server.form import Asked
from auris.types import Retry, Segment, Transcript, Word

__all__ = ["LEASE_SECONDS", "Job", "JobStore"]

LEASE_SECONDS = 10.0
"""How long a job stays with a worker that shows no sign of life."""

MOST_ATTEMPTS = 3
"""A job at which the server was killed so often is given up, since it may be the cause."""

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, status TEXT NOT NULL,
    asked TEXT NOT NULL, seconds REAL, done REAL NOT NULL DEFAULT 0, finished REAL,
    error TEXT, result TEXT, worker TEXT, lease REAL, attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, created);
CREATE TABLE IF NOT EXISTS pieces (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    segment TEXT NOT NULL, PRIMARY KEY (job, number)
);
"""

SHOWN = "id, owner, created, status, asked, seconds, done, finished, error"


@dataclass(frozen=True)
class Job:
    """A job as callers see it; times are seconds since 1970, lengths seconds of audio."""

    id: str
    owner: str
    created: float
    status: Status
    asked: Asked
    seconds: float | None
    done: float
    finished: float | None
    error: dict[str, Any] | None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in ("queued", "running")

    def to_dict(self) -> dict[str, Any]:
        """The job as the API shows it."""
        return {
            "id": self.id,
            "object": "transcription.job",
            "created_at": int(self.created),
            "finished_at": None if self.finished is None else int(self.finished),
            "status": self.status,
            "model": self.asked.model,
            "response_format": self.asked.response_format,
            "progress": {
                "seconds_done": round(self.done, 3),
                "seconds_total": None if self.seconds is None else round(self.seconds, 3),
            },
            "error": self.error,
        }


def _job(row: tuple[Any, ...]) -> Job:
    name, owner, created, status, asked, seconds, done, finished, error = row
    request = Asked.from_dict(json.loads(asked))
    told = None if error is None else json.loads(error)
    return Job(name, owner, created, status, request, seconds, done, finished, told)


def _frozen(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _segment(content: Mapping[str, Any]) -> Segment:
    fields = {name: _frozen(value) for name, value in content.items()}
    if fields["words"] is not None:
        fields["words"] = tuple(Word(**word) for word in fields["words"])
    fields["retries"] = tuple(
        Retry(**{name: _frozen(value) for name, value in retry.items()})
        for retry in fields["retries"]
    )
    return Segment(**fields)


def _transcript(content: Mapping[str, Any]) -> Transcript:
    segments = tuple(_segment(segment) for segment in content["segments"])
    warnings = tuple(content.get("warnings", ()))
    return Transcript(**{**content, "segments": segments, "warnings": warnings})


class JobStore:
    """All jobs of a state folder, which several processes may share.

    Args:
        directory: the folder; it is made.
        worker: names this process among them.

    Raises:
        OutputError: the folder cannot be used.
    """

    def __init__(self, directory: Path, worker: str | None = None) -> None:
        self._recordings = directory / "recordings"
        self.worker = worker or secrets.token_hex(8)
        self._lock = threading.Lock()
        try:
            self._recordings.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(
                directory / "jobs.sqlite",
                timeout=30.0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            # An accepted job is on the disk, also when the power fails.
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA foreign_keys = ON")
            self._database.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                "--state-dir has to be a folder that can be written",
                f"{str(directory)!r} cannot be ({error})",
                "name another",
            ) from error
        self._remove_strays()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nothing of it stays when it fails."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _place(self, job: str) -> Path:
        return self._recordings / job

    def expire(self, age: float) -> int:
        """Remove jobs that have been over for `age` seconds, and recordings that nobody needs.

        Returns:
            how many jobs.
        """
        with self._changing() as database:
            gone = database.execute("DELETE FROM jobs WHERE finished < ?", (time.time() - age,))
        self._remove_strays()
        return gone.rowcount

    def _remove_strays(self) -> None:
        """Recordings of jobs that are over or never were; not those that are just being written."""
        kept = {row[0] for row in self._read("SELECT id FROM jobs WHERE finished IS NULL")}
        for path in self._recordings.iterdir():
            # Another process may have removed it meanwhile.
            with suppress(FileNotFoundError):
                if path.name not in kept and path.stat().st_mtime < time.time() - 3600:
                    path.unlink()

    def accept(self, owner: str, asked: Asked, file: IO[bytes], most: int) -> Job:
        """Take a job; when this returns, it will be done.

        Args:
            owner: whose it is.
            asked: the request.
            file: the recording.
            most: jobs of one owner that may wait or run.

        Raises:
            ApiError: the owner has too many already.
            OSError, sqlite3.OperationalError: there is no room; nothing stays.
        """
        name = "job_" + secrets.token_hex(16)
        place = self._place(name)
        try:
            file.seek(0)
            with open(place, "xb") as copy:
                shutil.copyfileobj(file, copy)
                copy.flush()
                os.fsync(copy.fileno())
            with self._changing() as database:
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
                    "INSERT INTO jobs (id, owner, created, status, asked) "
                    "VALUES (?, ?, ?, 'queued', ?)",
                    (name, owner, time.time(), json.dumps(asked.to_dict())),
                )
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        found = self.find(name, owner)
        assert found is not None
        return found

    def find(self, job: str, owner: str) -> Job | None:
        """A job of an owner's."""
        rows = self._read(f"SELECT {SHOWN} FROM jobs WHERE id = ? AND owner = ?", (job, owner))
        return _job(rows[0]) if rows else None

    def listed(self, owner: str, limit: int, after: Job | None = None) -> list[Job]:
        """The owner's jobs, the newest first; those behind `after`, where it is given."""
        query = f"SELECT {SHOWN} FROM jobs WHERE owner = ?"
        values: tuple[Any, ...] = (owner,)
        if after is not None:
            query += " AND (created, id) < (?, ?)"
            values += (after.created, after.id)
        query += " ORDER BY created DESC, id DESC LIMIT ?"
        return [_job(row) for row in self._read(query, (*values, limit))]

    def counts(self) -> dict[str, int]:
        """How many jobs there are, by status."""
        return dict(self._read("SELECT status, count(*) FROM jobs GROUP BY status"))

    def result(self, job: str) -> Transcript:
        """The transcript of a job that succeeded."""
        ((content,),) = self._read("SELECT result FROM jobs WHERE id = ?", (job,))
        return _transcript(json.loads(content))

    def cancel(self, job: str) -> None:
        """End a job that is not over; whoever works at it notices."""
        self._end(job, "cancelled", None, None, "finished IS NULL", ())

    def delete(self, job: str) -> None:
        """Remove a job with all that is known of it."""
        with self._changing() as database:
            database.execute("DELETE FROM jobs WHERE id = ?", (job,))
        self._place(job).unlink(missing_ok=True)

    # What follows is for those who do the work.

    def claim(self) -> Job | None:
        """Take the oldest job that waits, or whose worker is gone; None when there is none."""
        now = time.time()
        with self._changing() as database:
            row = database.execute(
                "SELECT id, owner, attempts FROM jobs WHERE status = 'queued' "
                "OR (status = 'running' AND lease < ?) ORDER BY created LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            name, owner, attempts = row
            database.execute(
                "UPDATE jobs SET status = 'running', worker = ?, lease = ?, attempts = ? "
                "WHERE id = ?",
                (self.worker, now + LEASE_SECONDS, attempts + 1, name),
            )
        if attempts >= MOST_ATTEMPTS:
            self.fail(name, ApiError(500, "The server ended each time it worked at this job."))
            return self.claim()
        return self.find(name, owner)

    def renew(self) -> set[str]:
        """Keep this worker's jobs; returns those that are still its own."""
        with self._changing() as database:
            database.execute(
                "UPDATE jobs SET lease = ? WHERE worker = ? AND status = 'running'",
                (time.time() + LEASE_SECONDS, self.worker),
            )
        query = "SELECT id FROM jobs WHERE worker = ? AND status = 'running'"
        return {row[0] for row in self._read(query, (self.worker,))}

    def recording(self, job: str) -> IO[bytes]:
        """The recording of a job, open."""
        return open(self._place(job), "rb")

    def measured(self, job: str, seconds: float) -> None:
        """Record how long a job's recording is."""
        with self._changing() as database:
            database.execute("UPDATE jobs SET seconds = ? WHERE id = ?", (seconds, job))

    def keep(self, job: str, number: int, segment: Segment) -> None:
        """Record a piece that is done."""
        with self._changing() as database:
            mine = database.execute(
                "UPDATE jobs SET done = max(done, ?) WHERE id = ? AND worker = ?",
                (segment.end, job, self.worker),
            )
            if mine.rowcount:
                database.execute(
                    "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)",
                    (job, number, json.dumps(asdict(segment))),
                )

    def kept(self, job: str) -> dict[int, Segment]:
        """Pieces that were done before, by number."""
        rows = self._read("SELECT number, segment FROM pieces WHERE job = ?", (job,))
        return {number: _segment(json.loads(content)) for number, content in rows}

    def succeed(self, job: str, transcript: Transcript) -> None:
        """Record the result."""
        self._end(
            job, "succeeded", None, json.dumps(asdict(transcript)), "worker = ?", (self.worker,)
        )

    def fail(self, job: str, error: ApiError) -> None:
        """Record why there is no result."""
        told = json.dumps(error.body()["error"])
        self._end(job, "failed", told, None, "worker = ?", (self.worker,))

    def release(self, job: str) -> None:
        """Leave a job to others, as it is."""
        with self._changing() as database:
            database.execute(
                "UPDATE jobs SET status = 'queued', worker = NULL, attempts = attempts - 1 "
                "WHERE id = ? AND worker = ? AND status = 'running'",
                (job, self.worker),
            )

    def _end(
        self,
        job: str,
        status: Status,
        error: str | None,
        result: str | None,
        condition: str,
        values: tuple[Any, ...],
    ) -> None:
        with self._changing() as database:
            changed = database.execute(
                "UPDATE jobs SET status = ?, error = ?, result = ?, finished = ?, worker = NULL "
                f"WHERE id = ? AND finished IS NULL AND {condition}",
                (status, error, result, time.time(), job, *values),
            )
            if changed.rowcount:
                database.execute("DELETE FROM pieces WHERE job = ?", (job,))
        if changed.rowcount:
            self._place(job).unlink(missing_ok=True)
