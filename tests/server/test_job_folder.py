"""The folder of jobs: used by the server only, private to its user, and cleaned up."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from auris.errors import OutputError
from auris.server.jobs import files as files_module
from auris.server.jobs.files import StateFolder
from auris.server.jobs.store import JobStore
from auris.server.transcription_request import TranscriptionRequest
from auris.types import Segment

POSIX = pytest.mark.skipif(os.name != "posix", reason="rights of POSIX systems")
MODELS = {"tiny": "digest"}


def _old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    os.utime(path, (0, 0))
    return path


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """A subfolder of it is used, whatever its own folders are called."""
    files = [
        _old(tmp_path / "recordings" / "interview.wav"),
        _old(tmp_path / "recordings" / f"job_{'a' * 32}"),
        _old(tmp_path / "notes.txt"),
    ]
    for _ in range(2):
        store = JobStore(tmp_path)
        assert store.folder.path == tmp_path / "auris-server"
        store.expire(0.0)
        store.close()
    assert all(path.read_bytes() == b"mine" for path in files)
    assert {path.name for path in tmp_path.iterdir()} == {"recordings", "notes.txt", "auris-server"}


def test_a_folder_created_by_a_server_can_be_used_again(tmp_path: Path) -> None:
    place = tmp_path / "state"
    assert StateFolder(place).path == place
    mine = _old(place / "recordings" / "interview.wav")
    store = JobStore(place)
    assert store.folder.path == place
    store.expire(0.0)
    store.close()
    assert mine.exists()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "jobs.sqlite") as foreign:
        foreign.execute("CREATE TABLE jobs (title TEXT)")
    foreign.close()
    assert StateFolder(tmp_path).path == tmp_path / "auris-server"


def test_a_subfolder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "auris-server").mkdir()
    (tmp_path / "auris-server" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="hold other files"):
        StateFolder(tmp_path)


def test_jobs_in_the_first_database_schema_are_resumed(tmp_path: Path) -> None:
    """Such folders have no marker file, and their tables lack later columns."""
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "job_1").write_bytes(b"sound")
    with sqlite3.connect(tmp_path / "jobs.sqlite") as old:
        old.executescript(
            """CREATE TABLE jobs (
                id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL,
                status TEXT NOT NULL, asked TEXT NOT NULL, seconds REAL,
                done REAL NOT NULL DEFAULT 0, finished REAL, error TEXT, result TEXT, worker TEXT,
                lease REAL, attempts INTEGER NOT NULL DEFAULT 0);
            CREATE TABLE pieces (job TEXT NOT NULL, number INTEGER NOT NULL, segment TEXT NOT NULL);
            INSERT INTO jobs (id, owner, created, status, asked, worker, lease)
                VALUES ('job_1', 'me', 1, 'running', '{"model": "tiny"}', 'gone', 1);
            INSERT INTO jobs (id, owner, created, status, asked, finished, result)
                VALUES ('job_2', 'me', 2, 'succeeded', '{"model": "tiny"}', 2, 'SECRET');"""
        )
    old.close()
    store = JobStore(tmp_path)
    assert store.folder.path == tmp_path
    claimed = store.claim(MODELS)
    assert claimed is not None
    assert (claimed.id, claimed.model) == ("job_1", "digest")
    over = store.find("job_2", "me")
    assert over is not None
    assert over.error is not None
    assert "send the recording again" in over.error["message"]
    store.delete("job_2")
    store.close()
    assert b"SECRET" not in (tmp_path / "jobs.sqlite").read_bytes()


@POSIX
def test_the_job_folder_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = JobStore(tmp_path / "new" / "state")
        job = store.accept(
            "me", TranscriptionRequest(model="tiny"), "digest", io.BytesIO(b"sound"), 9
        ).id
        assert store.claim(MODELS) is not None
        store.begin(job, "a")
        (tmp_path / "new" / "state" / "jobs.sqlite").chmod(0o644)
        another = JobStore(tmp_path / "new" / "state")
        store.succeed(
            store.accept(
                "me", TranscriptionRequest(model="tiny"), "digest", io.BytesIO(b"s"), 9
            ).id,
            {},
        )
        modes = {
            str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
            for path in tmp_path.rglob("*")
        }
        another.close()
        store.close()
    finally:
        os.umask(before)
    assert "new/state/jobs.sqlite-wal" in modes
    assert f"new/state/segments/{job}" in modes
    open_to_others = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    assert open_to_others == {}


def test_jobs_with_former_request_fields_are_resumed(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.accept("me", TranscriptionRequest(model="tiny"), "digest", io.BytesIO(b"s"), 9).id
    fields = {
        "model": "tiny",
        "language": "English",
        "languages": [],
        "context": "Ada",
        "vad": True,
        "response_format": "verbose_json",
        "temperature": 0.0,
        "words": True,
        "segments": True,
        "logprobs": False,
        "stream": False,
        "speakers": [],
        "formats": [],
        "url": None,
    }
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        database.execute("UPDATE jobs SET asked = ?", (json.dumps(fields),))
    database.close()
    claimed = store.claim(MODELS)
    assert claimed is not None
    assert claimed.id == job
    assert claimed.request == TranscriptionRequest(
        model="tiny",
        language="English",
        prompt="Ada",
        chunking_strategy="auto",
        response_format="verbose_json",
        timestamp_granularities=("word", "segment"),
    )
    store.close()


def _texts(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("over", [False, True])
def test_deleting_a_job_removes_all_its_data(tmp_path: Path, over: bool) -> None:
    """Also from the database and its log, while the server runs."""
    secret = "SECRET" * 2000
    store = JobStore(tmp_path)
    request = TranscriptionRequest(model="tiny", prompt=secret)
    job = store.accept("me", request, "digest", io.BytesIO(secret.encode()), 9).id
    other = store.accept(
        "me", TranscriptionRequest(model="tiny"), "digest", io.BytesIO(b"sound"), 9
    ).id
    assert store.claim(MODELS) is not None
    store.begin(job, "a")
    store.add_segment(job, Segment(0.0, 1.0, secret, "English", (), (), "stop"))
    if over:
        store.succeed(job, {"text": secret})
    assert b"SECRET" in _texts(tmp_path)
    store.delete(job)
    assert b"SECRET" not in _texts(tmp_path)
    assert store.find(other, "me") is not None
    store.close()


def test_data_read_by_another_process_is_erased_later(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.accept(
        "me", TranscriptionRequest(model="tiny", prompt="SECRET"), "digest", io.BytesIO(b"s"), 9
    ).id
    reader = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    store.delete(job)
    assert b"SECRET" in _texts(tmp_path)
    reader.execute("COMMIT")
    reader.close()
    store.erase()
    assert b"SECRET" not in _texts(tmp_path)
    store.close()


def test_jobs_can_be_deleted_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserved file makes room for it, and is created again afterwards. A limit of file sizes
    simulates the full disk: changes exceed it until the reserved file is deleted."""
    store = JobStore(tmp_path)
    jobs = [
        store.accept("me", TranscriptionRequest(model="tiny"), "digest", io.BytesIO(b"sound"), 9).id
        for _ in range(2)
    ]
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_size == files_module.RESERVE_BYTES
    connect = store._database._connect
    monkeypatch.setattr(
        store._database, "_connect", lambda *timeout: _Full(connect(*timeout), reserve)
    )
    store.cancel(jobs[0])
    assert reserve.exists()
    found = store.find(jobs[0], "me")
    assert found is not None
    assert found.status == "cancelled"
    store.delete(jobs[1])
    assert store.find(jobs[1], "me") is None
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.set_length(jobs[0], 1.0)
    assert reserve.exists()
    store.close()


class _Full:
    """A connection to a database on a disk that is full while the reserved file exists."""

    def __init__(self, connection: sqlite3.Connection, reserve: Path) -> None:
        self._connection = connection
        self._reserve = reserve

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: object) -> object:
        """As of the connection."""
        changes = statement.startswith(("UPDATE", "DELETE", "INSERT"))
        if changes and self._reserve.exists():
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)
