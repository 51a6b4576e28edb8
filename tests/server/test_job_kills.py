"""Servers killed at random moments: results equal those of uninterrupted runs.

AURIS_TEST_KILLS is how many kills there are (3), AURIS_TEST_SEED chooses their moments (0).
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from auris.server.transcription_request import TranscriptionRequest
from tests.server.live import until
from tests.server.test_job_resume import BEFORE, undisturbed, with_silences
from tests.server.test_program import POSIX, SERVE, Program, serving

KILLS = int(os.environ.get("AURIS_TEST_KILLS", "3"))
SEED = int(os.environ.get("AURIS_TEST_SEED", "0"))

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"chunk_seconds": 3.0},
    {"chunk_seconds": 8.0},
    {"dtype": "int8"},
    {"dtype": "bfloat16", "chunk_seconds": 4.0},
)
"""Options of a server: as of `Settings`."""

FORMS: tuple[dict[str, Any], ...] = (
    {"response_format": "verbose_json"},
    {
        "response_format": "verbose_json",
        "chunking_strategy": "auto",
        "timestamp_granularities[]": ["word", "segment"],
    },
)
"""What callers ask."""

REQUEST = (
    TranscriptionRequest(model="tiny", response_format="verbose_json"),
    TranscriptionRequest(
        model="tiny",
        response_format="verbose_json",
        chunking_strategy="auto",
        timestamp_granularities=("word", "segment"),
    ),
)
"""The same, as the server understands it."""

SECONDS = 300.0
"""Longest time for a job on a busy machine."""


def _command_line(options: dict[str, Any]) -> list[str]:
    named = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return ["--batch-size", "1", *(word for pair in named for word in pair)]


@dataclass
class _Kills:
    """A series of servers on one folder, each killed at a random moment.

    Attributes:
        open_jobs: the kind of every job that is not over, by its name.
        kills: how many there were.
        changes: how many of them were followed by other options.
        with_segments: how many of them hit a job some of whose segments were kept.
        checked: results that were compared.
    """

    folder: Path
    rng: random.Random
    open_jobs: dict[str, int] = field(default_factory=dict)
    expected: dict[tuple[int, int], Any] = field(default_factory=dict)
    kills: int = 0
    changes: int = 0
    with_segments: int = 0
    checked: int = 0

    def run(self) -> None:
        """All kills, and then a server that finishes the remaining jobs."""
        number = 0
        while self.kills < KILLS:
            with serving(self.folder, *_command_line(OPTIONS[number]), command=SERVE) as server:
                self._accept(server)
                self._wait_for_the_moment()
                server.process.kill()
                server.process.wait()
                self.with_segments += bool(self._stored_segments())
                self.kills += 1
            self._take_results(number)
            if self.kills % 2:
                self.changes += 1
                number = (number + self.rng.randrange(1, len(OPTIONS))) % len(OPTIONS)
        with serving(self.folder, *_command_line(OPTIONS[number]), command=SERVE) as server:
            for job in self.open_jobs:
                place = f"/v1/jobs/{job}"
                until(lambda place=place: server.client.get(place).json()["finished_at"], SECONDS)
        self._take_results(number)
        assert self.open_jobs == {}

    def _accept(self, server: Program) -> None:
        """Create jobs until there are three."""
        for _ in range(3 - len(self.open_jobs)):
            kind = self.rng.randrange(len(FORMS))
            response = server.client.post(
                "/v1/jobs",
                files={"file": ("a.wav", with_silences())},
                data={"model": "tiny", **FORMS[kind]},
            )
            assert response.status_code == 202, response.text
            self.open_jobs[response.json()["id"]] = kind

    def _wait_for_the_moment(self) -> None:
        """Wait for some more stored segments, or sometimes for a moment only."""
        if self.rng.random() < 0.25:
            time.sleep(self.rng.uniform(0.0, 1.0))
            return
        wanted = self._stored_segments() + self.rng.randrange(1, 8)
        until(lambda: self._stored_segments() >= wanted or self._succeeded(), SECONDS)
        time.sleep(self.rng.uniform(0.0, 0.1))

    def _stored_segments(self) -> int:
        """Number of stored segments of unfinished jobs."""
        files = [self.folder / "state" / "segments" / job for job in self.open_jobs]
        return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in files if path.exists())

    def _succeeded(self) -> list[str]:
        """Jobs that have succeeded since the last comparison of results."""
        database = sqlite3.connect(self.folder / "state" / "jobs.sqlite", timeout=60)
        with closing(database):
            rows = database.execute("SELECT id, status FROM jobs").fetchall()
        statuses = {job: status for job, status in rows if job in self.open_jobs}
        assert set(statuses.values()) <= {"queued", "running", "succeeded"}, statuses
        assert statuses.keys() == self.open_jobs.keys(), "a job is lost"
        return [job for job, status in statuses.items() if status == "succeeded"]

    def _take_results(self, number: int) -> None:
        """Compare the results of the server that ended with those of uninterrupted runs."""
        for job in self._succeeded():
            kind = self.open_jobs[job]
            key = (number, kind)
            if key not in self.expected:
                settings = replace(BEFORE, **OPTIONS[number])
                place = self.folder / f"undisturbed-{number}-{kind}"
                self.expected[key], _ = undisturbed(place, settings, REQUEST[kind], with_silences())
            answers = json.loads((self.folder / "state" / "results" / job).read_bytes())
            assert answers == self.expected[key]
            del self.open_jobs[job]
            self.checked += 1


@POSIX
def test_random_kills_do_not_change_results(tmp_path: Path) -> None:
    kills = _Kills(tmp_path, random.Random(SEED))
    kills.run()
    print(
        f"{kills.kills} kills, {kills.with_segments} of them with kept segments; {kills.changes} "
        f"times other options; {kills.checked} results as of an undisturbed run"
    )
    assert kills.checked >= 3
