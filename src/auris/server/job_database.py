"""The database of jobs: connections, transactions, tables.

Its rows are small: texts lie in files. Of what is deleted nothing stays, neither in the tables nor
in the log of changes (-wal), and deleting works on a full disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from auris.server.errors import is_full_disk
from auris.server.job_folder import StateFolder, unusable

__all__ = ["JobDatabase"]

T = TypeVar("T")

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
"""From the tables without a version. Jobs that are not over stay."""


class JobDatabase:
    """The database of a state folder, which several processes may use.

    Args:
        folder: the folder.

    Raises:
        OutputError: the database cannot be used.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._to_erase = False
        try:
            self._writer = self._connect()
            # Queries have a connection of their own, so that they never wait for a change.
            self._reader = self._connect()
            with self.changing() as database:
                _make_tables(database)
        except sqlite3.Error as error:
            raise unusable(folder.path, error) from error

    def close(self) -> None:
        """Close the connections."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nothing of it stays when it fails."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._reading:
            return self._reader.execute(query, values).fetchall()

    def delete(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Make a change after which something must not be there: on a full disk, too."""
        try:
            with self.changing() as database:
                result = change(database)
        except sqlite3.OperationalError as error:
            if not is_full_disk(error):
                raise
            self._folder.release_reserve()
            with self.changing() as database:
                result = change(database)
        self._to_erase = True
        self.tidy()
        return result

    def tidy(self) -> None:
        """Erase what was deleted from the log of changes, and reserve room again."""
        if self._to_erase:
            # It is incomplete while another process reads, or where there is no room.
            with self._writing, suppress(sqlite3.OperationalError):
                self._wait_for_others(ERASE_SECONDS)
                row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._to_erase = bool(row[0])
                self._wait_for_others(BUSY_SECONDS)
        self._folder.restore_reserve()

    def _wait_for_others(self, seconds: float) -> None:
        self._writer.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._folder.database,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode = WAL")
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
