"""The folder in which servers store their jobs: whose it is, its files and its database.

    auris-state.txt         marks the folder as a server's own
    jobs.sqlite             the jobs, see `auris.server.jobs.store`
    recordings/JOB          uploaded audio, until the job is finished
    segments/JOB            a fingerprint and finished segments, lines of JSON
    results/JOB             response bodies of a job that succeeded, JSON
    workers/ID.lock         locked as long as the process ID lives
    reserve                 space for deleting when the disk is full

Only the user who runs the server can read any of it. A folder that has other files and no mark is
somebody else's: its subfolder `auris-server` is used then. Files are removed by the names that the
server gave them, never everything that a folder contains.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from auris.checkpoints.atomic import write_all
from auris.errors import OutputError
from auris.server.errors import is_full_disk
from auris.types import Segment

MARK = "auris-state.txt"
MARK_TEXT = (
    "This folder belongs to `auris serve`, which keeps its jobs here and removes old ones.\n"
    "Do not keep files of your own in it.\n"
)

SUBFOLDER = "auris-server"
"""What is used of a folder that has other files."""

JOB_FILE = re.compile(r"job_[0-9a-f]{32}(\.new)?")
"""Names of all files of jobs."""

UNUSED_SECONDS = 3600.0
"""Age from which a file of no job is removed. Younger ones may be about to be used."""

RESERVE_BYTES = 256 << 10
"""What the database needs for a few small changes."""

BUSY_SECONDS = 30.0
"""How long a change waits for those of other processes."""

ERASE_SECONDS = 1.0
"""How long erasing waits for other processes; it is tried again later."""

VERSION = 1
"""Of the tables; the first ones had none."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, status TEXT NOT NULL,
        asked TEXT NOT NULL, seconds REAL, done REAL NOT NULL DEFAULT 0, finished REAL,
        error TEXT, worker TEXT, attempts INTEGER NOT NULL DEFAULT 0,
        model TEXT NOT NULL DEFAULT '',
        keeps_recording INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, created)",
    "CREATE TABLE IF NOT EXISTS workers (id TEXT PRIMARY KEY, models TEXT NOT NULL)",
)

UPGRADE = (
    "ALTER TABLE jobs ADD COLUMN model TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN keeps_recording INTEGER NOT NULL DEFAULT 0",
    """UPDATE jobs SET status = 'failed', result = NULL, error = '{"message": "The result was '
        || 'written by an earlier version of the server: send the recording again.", '
        || '"type": "server_error", "param": null, "code": "result_lost"}'
        WHERE status = 'succeeded'""",
    "DROP TABLE IF EXISTS pieces",
)
"""From the tables without a version. Unfinished jobs stay."""

SEGMENT = TypeAdapter(Segment)


class StateFolder:
    """A server's own folder: the one that the user named, or its subfolder.

    Raises:
        OutputError: it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self.path = _own_folder(directory)
            for name in ("recordings", "segments", "results", "workers"):
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
            self.database = self.path / "jobs.sqlite"
            # SQLite makes its further files with the rights of the database.
            open(self.database, "ab", opener=_private).close()
            for path in self.path.glob("jobs.sqlite*"):
                path.chmod(0o600)
            self.restore_reserve()
        except OSError as error:
            raise _unusable(directory, error) from error

    def recording(self, job: str) -> Path:
        """The file of a job's audio."""
        return self.path / "recordings" / job

    def segments(self, job: str) -> Path:
        """The file of a job's finished segments."""
        return self.path / "segments" / job

    def result(self, job: str) -> Path:
        """The file of a job's response bodies."""
        return self.path / "results" / job

    def add_recording(self, job: str, file: IO[bytes]) -> None:
        """Copy the audio of a job."""
        file.seek(0)
        with open(self.recording(job), "xb", opener=_private) as copy:
            shutil.copyfileobj(file, copy)
            _sync_file(copy)
        _sync_folder(self.path / "recordings")

    def read_segments(self, job: str) -> tuple[str | None, list[Segment], int]:
        """The fingerprint and the finished segments of a job, and the bytes of their lines; what a
        killed process left of a line comes after these. A missing file is empty."""
        fingerprint, segments, size = None, [], 0
        with suppress(FileNotFoundError, ValueError), open(self.segments(job), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                content = json.loads(line)
                if size:
                    segments.append(SEGMENT.validate_python(content))
                else:
                    fingerprint = content["fingerprint"]
                size += len(line)
        return fingerprint, segments, size

    def seconds_done(self, job: str) -> float:
        """End of the last finished segment, in seconds of the recording."""
        with suppress(FileNotFoundError):
            for line in reversed(self.segments(job).read_bytes().splitlines()):
                with suppress(ValueError):  # A killed process may leave a part of a line.
                    return float(json.loads(line).get("end", 0.0))
        return 0.0

    def begin_segments(self, job: str, fingerprint: str) -> None:
        """Make a file of segments without any, in place of an older one."""
        write_file(self.segments(job), _json_line({"fingerprint": fingerprint}))

    def add_segment(self, job: str, segment: Segment) -> None:
        """Append a segment to the file that `begin_segments` made.

        Raises:
            FileNotFoundError: the file was removed.
            OSError: the disk is full; nothing of the segment stays.
        """
        with open(self.segments(job), "r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                write_all(file, _json_line(asdict(segment)))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def remove(self, job: str) -> None:
        """Remove all files of a job."""
        for path in (self.recording(job), self.segments(job), self.result(job)):
            path.unlink(missing_ok=True)

    def remove_unused(self, recordings: set[str], others: set[str]) -> None:
        """Remove files that a killed process left, of other jobs than those that need their
        recordings or other files."""
        oldest = time.time() - UNUSED_SECONDS
        for name, needed in (("recordings", recordings), ("segments", others), ("results", others)):
            for path in (self.path / name).iterdir():
                if path.name in needed or not JOB_FILE.fullmatch(path.name):
                    continue
                with suppress(FileNotFoundError):  # Another process may have removed it.
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    def lock_worker(self, worker: str) -> FileLock:
        """The lock that shows that a process lives; it ends with the process, however that ends."""
        lock = self._worker_lock(worker)
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise _unusable(self.path, error) from error
        return lock

    def is_alive(self, worker: str) -> bool:
        """Whether the process of a worker lives."""
        lock = self._worker_lock(worker)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
        return False

    def _worker_lock(self, worker: str) -> FileLock:
        path = self.path / "workers" / f"{worker}.lock"
        return FileLock(path, timeout=0, mode=0o600, thread_local=False)

    def release_reserve(self) -> None:
        """Give the reserved space back to the disk."""
        (self.path / "reserve").unlink(missing_ok=True)

    def restore_reserve(self) -> None:
        """Reserve space again, where there is some."""
        path = self.path / "reserve"
        if not path.exists():
            with suppress(OSError):
                write_file(path, bytes(RESERVE_BYTES))


class JobDatabase:
    """The database of a state folder, which several processes may use.

    Its rows are small: texts are in files. Nothing stays of what is deleted, neither in the tables
    nor in the log of changes (-wal), and deleting works on a full disk.

    Raises:
        OutputError: the database cannot be used.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._to_erase = False
        self._closed = False
        try:
            self._open = self._connect()
            self._open.execute("PRAGMA journal_mode = WAL")
            with self.transaction() as database:
                _make_tables(database)
            # Once it has read, an open connection keeps the log and its index from being removed
            # when another one is closed: on a full disk they could not be made again.
            self._open.execute("SELECT count(*) FROM jobs").fetchone()
        except sqlite3.Error as error:
            raise _unusable(folder.path, error) from error

    def close(self) -> None:
        """Close the last connection; further changes and queries fail."""
        self._closed = True
        self._open.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which is rolled back when the block fails."""
        with closing(self._connect()) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with closing(self._connect()) as database:
            return database.execute(query, values).fetchall()

    def change(self, statement: str, values: Sequence[Any]) -> int:
        """Execute one change; returns how many rows it changed."""
        with closing(self._connect()) as database:
            return database.execute(statement, values).rowcount

    def change_and_erase(self, statement: str, values: Sequence[Any]) -> int:
        """Execute one change that removes something, even on a full disk."""
        try:
            changed = self.change(statement, values)
        except sqlite3.OperationalError as error:
            if not is_full_disk(error):
                raise
            self._folder.release_reserve()
            changed = self.change(statement, values)
        self._to_erase = True
        self.erase()
        return changed

    def erase(self) -> None:
        """Erase what was removed from the log of changes, and reserve space again."""
        if self._to_erase:
            # Not possible while another process reads, or on a full disk.
            with suppress(sqlite3.OperationalError), closing(self._connect(ERASE_SECONDS)) as log:
                busy, _, _ = log.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._to_erase = bool(busy)
        self._folder.restore_reserve()

    def _connect(self, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("The database of the jobs is closed.")
        connection = sqlite3.connect(
            self._folder.database, timeout, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        # An accepted job is on the disk, also when the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        # What is deleted is overwritten.
        connection.execute("PRAGMA secure_delete = ON")
        return connection


def _make_tables(database: sqlite3.Connection) -> None:
    ((version,),) = database.execute("PRAGMA user_version").fetchall()
    if version >= VERSION:
        return
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone():
        for change in UPGRADE:
            database.execute(change)
    for table in TABLES:
        database.execute(table)
    database.execute(f"PRAGMA user_version = {VERSION}")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is complete or missing, whatever happens meanwhile."""
    draft = path.with_name(path.name + ".new")
    try:
        with open(draft, "wb", opener=_private) as file:
            file.write(content)
            _sync_file(file)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_file(file: IO[bytes]) -> None:
    """Force what was written to a file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Force the names of a folder onto the disk; Windows has no such call and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _json_line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _private(path: str, flags: int) -> int:
    """Opens a file; a new one can be read only by the user of this process."""
    return os.open(path, flags, 0o600)


def _unusable(directory: Path, error: object) -> OutputError:
    return OutputError(
        "--state-dir has to be a folder that can be written",
        f"{str(directory)!r} cannot be ({error})",
        "name another",
    )


def _own_folder(directory: Path) -> Path:
    """The folder to use: the one that was named, or a subfolder where that has other files."""
    for folder in (directory, directory / SUBFOLDER):
        for path in reversed([folder, *folder.parents]):
            if not path.exists():
                path.mkdir(exist_ok=True, mode=0o700)
        is_empty = not any(folder.iterdir())
        if is_empty or (folder / MARK).exists() or _has_jobs(folder / "jobs.sqlite"):
            with suppress(FileExistsError), open(folder / MARK, "xb", opener=_private) as mark:
                mark.write(MARK_TEXT.encode())
            return folder
    raise OSError(f"it and its subfolder {SUBFOLDER!r} hold other files")


def _has_jobs(database: Path) -> bool:
    """Whether a database is that of a server, of an early version, which did not mark folders."""
    if not database.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
        return {"id", "owner", "asked", "attempts"} <= columns
    return False
