"""Failures of storage: what counts as one, when a shard is tried again, and leases after it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from auris import AsrPipeline
from auris.errors import OutputError
from auris.scale.leases import FOLDER, Lease, Leases, SystemClock, lease_name
from auris.scale.plan import Shard
from auris.scale.ray_run import RETRY_PAUSE, ShardActor
from auris.scale.rows import StorageFailures, audio_rows
from auris.scale.run import transcribe_corpus
from auris.scale.sources import units
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.scale.units import InputUnit
from auris.scale.worker import MOST_FAILURES, Worker
from tests.scale.corpus import merged, plan_of, run, settings, transcriber, write_corpus


class Disconnected(Exception):
    """An error of a package of a filesystem, which is no OSError."""


class RecordingClock(SystemClock):
    """A clock that does not wait."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def start(self, function: Any) -> None:
        """There are no heartbeats."""


class NoResults:
    """Results of which none is finished."""

    def finished(self, among: object = None) -> set[str]:
        return set()


def test_a_worker_waits_longer_after_each_failure_without_the_lease(tmp_path: Path) -> None:
    storage, clock = Storage(str(tmp_path)), RecordingClock()
    leased: list[list[str]] = []

    def work(shard: Shard, lease: Lease, last: bool) -> None:
        raise OutputError("A recording cannot be read", "", "check the storage")

    def sleep(seconds: float) -> None:
        leased.append(storage.names(FOLDER))
        clock.pauses.append(seconds)

    clock.sleep = sleep
    leases = Leases(storage, "one", 8.0, clock)
    report = Worker([Shard("a", 0, 0, 0, 0.0)], NoResults(), leases, work, clock).run(lambda: False)
    assert list(report.failed) == ["a"]
    assert clock.pauses == [2.0, 4.0, 8.0]
    assert leased == [[]] * MOST_FAILURES


@pytest.mark.no_cover
@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
@pytest.mark.parametrize("mended", [True, False])
def test_failures_in_processes_that_read_ahead_are_tried_again(
    ctc: AsrPipeline, tmp_path: Path, mended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to itself is a file whose filesystem fails, neither missing nor forbidden."""
    write_corpus(str(tmp_path))
    link, good = tmp_path / "calls" / "link.wav", tmp_path / "calls" / "2.wav"
    source = tmp_path / "list.txt"
    source.write_text("calls/1.wav\ncalls/link.wav\ncalls/3.wav\n")
    link.symlink_to(good)
    run(ctc, str(source), str(tmp_path / "one"))
    link.unlink()
    link.symlink_to(link)
    tries: list[bool] = []
    result = ShardTranscriber.result

    def noted(self: ShardTranscriber, units: Any, isolated: bool, last: bool) -> bytes:
        tries.append(last)
        return result(self, units, isolated, last)

    monkeypatch.setattr(ShardTranscriber, "result", noted)
    clock = RecordingClock()

    def sleep(seconds: float) -> None:
        clock.pauses.append(seconds)
        if mended:
            link.unlink()
            link.symlink_to(good)

    clock.sleep = sleep
    out, chosen = str(tmp_path / "run"), settings(str(source), shard_seconds=1000.0)
    report = transcribe_corpus(transcriber(ctc, workers=1), out, chosen, clock=clock)
    assert (report.done, report.left) == (1, 0)
    if mended:
        assert tries == [False, False]
        assert merged(out) == merged(str(tmp_path / "one"))
    else:
        assert tries == [False, False, True]
        assert clock.pauses == [0.1, 0.2]
        errors = [json.loads(line).get("kind") for line in merged(out).splitlines()]
        assert errors == [None, "UnreadableAudio", None]


def test_an_actor_waits_between_its_tries(
    ctc: AsrPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    transcribe_corpus(transcriber(ctc), out, settings(source), stopped=lambda: True)
    pauses: list[float] = []

    def fail(*_: object, **__: object) -> bytes:
        raise OutputError("A recording cannot be read", "", "check the storage")

    monkeypatch.setattr(SystemClock, "sleep", lambda _, seconds: pauses.append(seconds))
    actor = ShardActor(lambda: transcriber(ctc), out, settings(source).values())
    monkeypatch.setattr(type(transcriber(ctc)), "result", fail)
    found = actor({"shard": [plan_of(out).shards[0].name]})
    assert found["error"] == ["A recording cannot be read: check the storage."]
    assert [seconds for seconds in pauses if seconds >= RETRY_PAUSE] == [15.0, 30.0]


def test_a_release_removes_all_generations(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for generation in range(4):
        storage.put(lease_name("a", generation), b"")
    Leases(storage, "one", 1.0, RecordingClock()).release(Lease("a", 3))
    assert storage.names(FOLDER) == []


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_failures_that_are_no_oserror_count_as_those_of_the_storage(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet")
    from fsspec.implementations.memory import MemoryFileSystem

    def fail(*_: object, **__: object) -> None:
        raise Disconnected("the server has disconnected")

    monkeypatch.setattr(MemoryFileSystem, "open", fail)
    failures = StorageFailures()
    unit = InputUnit(kind, f"memory://disconnected/a.{kind}", column="audio")
    (row,) = audio_rows([unit], failures)
    assert {type(error) for error in failures.errors} == {Disconnected}
    assert row.name == unit.uri


def test_a_damaged_container_is_no_failure_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar file" * 100)
    failures = StorageFailures()
    (row,) = audio_rows(units(str(tmp_path / "a.tar")), failures)
    assert row.name == str(tmp_path / "a.tar")
    assert failures.errors == []


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([1.0, 2.5], 3.5),
        ([1.0, float("nan")], None),
        ([1.0, float("inf")], None),
        ([1.0, -1.0], None),
        (["1", "2"], None),
        ([1.0, None], None),
    ],
)
def test_durations_of_parquet_files_count_if_all_of_them_are_durations(
    values: list[Any], seconds: float | None, tmp_path: Path
) -> None:
    arrow, parquet = (pytest.importorskip(f"pyarrow{end}") for end in ("", ".parquet"))
    table = arrow.table({"audio": [b"", b""], "duration": values})
    parquet.write_table(table, tmp_path / "t.parquet")
    (unit,) = units(str(tmp_path / "t.parquet"))
    assert unit.seconds == seconds


def test_data_uris_in_lists_and_manifests_stay_as_they_are(tmp_path: Path) -> None:
    uri = "data:audio/wav;base64,AAAA"
    (tmp_path / "list.txt").write_text(f"{uri}\n")
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": uri}) + "\n")
    for name in ("list.txt", "m.jsonl"):
        (unit,) = units(str(tmp_path / name), headers=True)
        assert unit.uri == uri


def test_hidden_folders_before_a_pattern_do_not_hide_its_files(tmp_path: Path) -> None:
    folder = tmp_path / ".cache"
    folder.mkdir()
    for name in ("1.wav", "2.wav", ".3.wav"):
        (folder / name).write_bytes(b"")
    for pattern in ("?.wav", "[12].wav", "*.wav"):
        found = [unit.uri for unit in units(str(folder / pattern))]
        assert found == [str(folder / "1.wav"), str(folder / "2.wav")]


def test_a_folder_with_the_characters_of_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "take [1]"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"")
    assert [unit.name for unit in units(str(folder))] == ["a.wav"]
    assert [unit.uri for unit in units(str(folder / "a.wav"))] == [str(folder / "a.wav")]
