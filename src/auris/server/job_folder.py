"""The folder in which a server keeps its jobs: whose it is, and the files in it.

    auris-state.txt         marks the folder as a server's own
    jobs.sqlite             the jobs, see `auris.server.jobs`
    recordings/JOB          uploaded audio, until the job is over
    segments/JOB            segments that are done, lines of JSON
    results/JOB             answers of a job that succeeded, JSON
    workers/ID.lock         locked as long as the process ID lives
    reserve                 room for deleting when the disk is full

Only the user who runs the server can read any of it. A folder that holds other files and no mark is
somebody else's: its subfolder `auris-server` is used then. Files are removed by names that the
server gave them, never all that a folder holds.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from auris.errors import OutputError

__all__ = [
    "StateFolder",
    "json_line",
    "open_new",
    "read_lines",
    "settle",
    "sync_folder",
    "unusable",
    "write_file",
]

MARK = "auris-state.txt"
MARK_TEXT = (
    "This folder belongs to `auris serve`, which keeps its jobs here and removes old ones.\n"
    "Do not keep files of your own in it.\n"
)

SUBFOLDER = "auris-server"
"""What is used of a folder that holds other files."""

JOB_FILE = re.compile(r"job_[0-9a-f]{32}(\.new)?")
"""Names of all files of jobs."""

STRAY_SECONDS = 3600.0
"""Age from which a file of no job is a leftover: younger ones may be just being written."""

RESERVE_BYTES = 256 << 10
"""What the database needs for a few small changes."""


class StateFolder:
    """A server's own folder.

    Args:
        directory: the folder that the user named; it is made where it is missing.

    Attributes:
        path: the folder that is used, `directory` or its subfolder.
        database: the file of the database; it exists.

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
            os.close(os.open(self.database, os.O_RDWR | os.O_CREAT, 0o600))
            for path in self.path.glob("jobs.sqlite*"):
                path.chmod(0o600)
            self.restore_reserve()
        except OSError as error:
            raise unusable(directory, error) from error

    def recording(self, job: str) -> Path:
        """Where the audio of a job lies."""
        return self.path / "recordings" / job

    def segments(self, job: str) -> Path:
        """Where the segments of a job lie that are done."""
        return self.path / "segments" / job

    def result(self, job: str) -> Path:
        """Where the answers of a job lie."""
        return self.path / "results" / job

    def remove(self, job: str) -> None:
        """Remove all files of a job."""
        for path in (self.recording(job), self.segments(job), self.result(job)):
            path.unlink(missing_ok=True)

    def remove_strays(self, recordings: set[str], others: set[str]) -> None:
        """Remove leftovers of jobs.

        Args:
            recordings: jobs whose recordings are needed.
            others: jobs whose other files are needed.
        """
        for name, needed in (("recordings", recordings), ("segments", others), ("results", others)):
            for path in (self.path / name).iterdir():
                # Another process may have removed it meanwhile.
                with suppress(FileNotFoundError):
                    if path.name not in needed and JOB_FILE.fullmatch(path.name):
                        _remove_old(path)

    def lock_worker(self, worker: str) -> FileLock:
        """The lock that shows that a process lives; it ends with the process, however that ends.

        Raises:
            OutputError: the file system has no locks.
        """
        lock = self._worker_lock(worker)
        try:
            lock.acquire()
        except (OSError, NotImplementedError, Timeout) as error:
            raise unusable(self.path, error) from error
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
        """Give the reserved room back to the disk."""
        (self.path / "reserve").unlink(missing_ok=True)

    def restore_reserve(self) -> None:
        """Reserve room again, where there is some."""
        path = self.path / "reserve"
        if path.exists():
            return
        with suppress(OSError):
            write_file(path, bytes(RESERVE_BYTES))


def unusable(directory: Path, error: object) -> OutputError:
    """The error of a folder that cannot be used."""
    return OutputError(
        "--state-dir has to be a folder that can be written",
        f"{str(directory)!r} cannot be ({error})",
        "name another",
    )


def open_new(path: Path) -> IO[bytes]:
    """Make a file that only the user of this process can read, open for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whatever happens meanwhile."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    try:
        with open_new(unfinished) as file:
            file.write(content)
            settle(file)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def settle(file: IO[bytes]) -> None:
    """Have on the disk what was written to a file."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names of a folder on the disk; Windows has no such call, and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def json_line(content: dict[str, Any]) -> bytes:
    """A line of a file of JSON lines."""
    return json.dumps(content).encode() + b"\n"


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file of JSON lines, and where the last of them ends.

    What a killed process left of a line is not among them. A file that is missing is empty.
    """
    found: list[dict[str, Any]] = []
    end = 0
    with suppress(FileNotFoundError, ValueError), open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            found.append(json.loads(line))
            end += len(line)
    return found, end


def _own_folder(directory: Path) -> Path:
    """The folder to use: the one that was named, or a subfolder where that holds other files."""
    for folder in (directory, directory / SUBFOLDER):
        _make(folder)
        if _is_own(folder) or not any(folder.iterdir()):
            with suppress(FileExistsError), open_new(folder / MARK) as file:
                file.write(MARK_TEXT.encode())
            return folder
    raise OSError(f"it and its subfolder {SUBFOLDER!r} hold other files")


def _make(folder: Path) -> None:
    """Make a folder, and those that it lies in, closed to other users."""
    missing: Iterable[Path] = [p for p in (folder, *folder.parents) if not p.exists()]
    for path in reversed(list(missing)):
        path.mkdir(exist_ok=True, mode=0o700)
    if not folder.is_dir():
        raise NotADirectoryError("it is no folder")


def _is_own(folder: Path) -> bool:
    """Whether a server uses a folder: it is marked, or has the database of an earlier version."""
    if (folder / MARK).exists():
        return True
    database = folder / "jobs.sqlite"
    if not database.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
        return {"id", "owner", "asked", "attempts"} <= columns
    return False


def _remove_old(path: Path) -> None:
    if path.stat().st_mtime < time.time() - STRAY_SECONDS:
        path.unlink()
