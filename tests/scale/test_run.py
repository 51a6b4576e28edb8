"""Runs: the same results everywhere, whatever fails or ends on the way."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from auris import AsrPipeline
from auris.errors import OutputError, UsageError
from auris.scale import run as run_module
from auris.scale.leases import FOLDER, lease_name
from auris.scale.plan import PLAN, RESULTS, Shard
from auris.scale.run import CorpusSettings, merged_lines, transcribe_corpus
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from tests.scale.corpus import CLIPS, merged, plan_of, run, settings, transcriber, write_corpus


@pytest.fixture(scope="module")
def expected(ctc: AsrPipeline, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The merged results of one undisturbed worker."""
    folder = tmp_path_factory.mktemp("expected")
    report = run(ctc, write_corpus(str(folder)), str(folder / "run"))
    assert (report.done, report.left, report.failed) == (
        len(plan_of(f"{folder}/run").shards),
        0,
        {},
    )
    return merged(str(folder / "run"))


def test_every_recording_has_one_row(expected: bytes) -> None:
    rows = [json.loads(line) for line in expected.splitlines()]
    assert [row["file"] for row in rows] == [f"{n}.wav" for n in range(CLIPS - 1)] + ["bad.wav"]
    assert rows[-1]["kind"] == "UnreadableAudio"
    assert all("timings" not in row for row in rows)
    assert all("segments" in row for row in rows[:-1])


def test_filesystems_give_the_same_results(ctc: AsrPipeline, address: str, expected: bytes) -> None:
    run(ctc, write_corpus(address), f"{address}/run")
    assert merged(f"{address}/run") == expected
    assert Storage(f"{address}/run").names(FOLDER) == []


def test_another_run_is_refused(ctc: AsrPipeline, tmp_path: Path) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    run(ctc, source, out)
    again = run(ctc, source, out)
    assert (again.done, again.left) == (0, 0)
    with pytest.raises(UsageError, match=r"began with chunk_seconds 30\.0 instead of 7"):
        run(ctc, source, out, chunk_seconds=7)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="began with input"):
        run(ctc, str(tmp_path / "other"), out)
    (tmp_path / "run" / PLAN).write_text("{}")
    with pytest.raises(UsageError, match="is not a plan"):
        run(ctc, source, out)


def test_two_workers_share_the_shards(ctc: AsrPipeline, tmp_path: Path, expected: bytes) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    patient = settings(source, lease_seconds=10.0)  # No lease ends because a worker is slow.
    done: list[str] = []

    def work(start: float) -> None:
        transcribe_corpus(
            transcriber(ctc), out, patient, start, report=lambda shard: done.append(shard.name)
        )

    threads = [threading.Thread(target=work, args=(start,)) for start in (0.0, 0.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [shard.name for shard in plan_of(out).shards]
    assert merged(out) == expected


@pytest.mark.parametrize("generation", [0, 5])
def test_shards_of_workers_that_ended_are_taken_over(
    ctc: AsrPipeline,
    tmp_path: Path,
    expected: bytes,
    generation: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After several of them recordings are decoded in another process, with the same results."""
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    isolated: list[bool] = []
    result = ShardTranscriber.result

    def noted(self: ShardTranscriber, units: Any, apart: bool, last: bool) -> bytes:
        isolated.append(apart)
        return result(self, units, apart, last)

    monkeypatch.setattr(ShardTranscriber, "result", noted)
    transcribe_corpus(transcriber(ctc), out, settings(source), stopped=lambda: True)
    storage, plan = Storage(out), plan_of(out)
    shard = plan.shards[1]
    storage.put(lease_name(shard.name, generation), b"of a worker that ended")
    # The plan is made, and a lease of it is no obstacle.
    storage.put(lease_name(PLAN, 0), b"of another one")
    waited: list[int] = []
    report = transcribe_corpus(transcriber(ctc), out, settings(source), waiting=waited.append)
    assert waited == [1]
    assert report.done == len(plan.shards)
    assert merged(out) == expected
    assert isolated.count(True) == (generation > 0)
    assert storage.names(FOLDER) == [f"{PLAN}.0"]


def test_a_plan_whose_planner_ended_is_made_by_another(
    ctc: AsrPipeline, tmp_path: Path, expected: bytes
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    Storage(out).put(lease_name(PLAN, 0), b"of a worker that ended")
    waited: list[int] = []
    transcribe_corpus(transcriber(ctc), out, settings(source), waiting=waited.append)
    assert waited == [0]
    assert merged(out) == expected


def fail_uploads(monkeypatch: pytest.MonkeyPatch, failures: Counter[str], name: str) -> None:
    """Let uploads of results fail as often as is counted."""
    put = Storage.put

    def failing(self: Storage, path: str, data: bytes) -> None:
        if path.startswith(RESULTS) and failures[name] > 0:
            failures[name] -= 1
            raise OutputError("The upload fails", "", "try again")
        put(self, path, data)

    monkeypatch.setattr(Storage, "put", failing)
    monkeypatch.setattr(run_module, "WRITE_PAUSE", 0.0)


@pytest.mark.parametrize("times", [1, 4, 8])
def test_a_failing_upload_loses_nothing(
    ctc: AsrPipeline, tmp_path: Path, expected: bytes, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    failures = Counter({"all": times})
    fail_uploads(monkeypatch, failures, "all")
    report = run(ctc, source, out)
    assert failures["all"] == 0
    assert (report.left, report.failed) == (0, {})
    assert merged(out) == expected


def test_a_shard_that_cannot_be_written_is_given_up_and_done_later(
    ctc: AsrPipeline, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "WRITE_PAUSE", 0.0)
        write = run_module.put_result

        def failing(storage: Storage, shard: Shard, *rest: Any) -> None:
            if shard.name.startswith("000001"):
                raise OutputError("The upload fails", "", "try again")
            write(storage, shard, *rest)

        patched.setattr(run_module, "put_result", failing)
        report = run(ctc, source, out)
    (name,) = report.failed
    assert report.left == 1
    assert report.failed[name] == "The upload fails: try again."
    with pytest.raises(UsageError, match=r"1 of \d are not"):
        merged(out)
    partial = b"".join(merged_lines(plan_of(out), partial=True))
    assert 0 < len(partial) < len(expected)
    assert run(ctc, source, out).done == 1
    assert merged(out) == expected


@pytest.mark.parametrize("kind", [ConnectionResetError, RuntimeError])
def test_a_storage_that_fails_for_a_while_is_no_error_of_a_recording(
    ctc: AsrPipeline,
    expected: bytes,
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFile

    source, out = write_corpus("memory://reset"), str(tmp_path / "run")
    failures = Counter(reads=2)
    read = MemoryFile.read

    def failing(self: MemoryFile, *size: int) -> bytes:
        if failures["reads"]:
            failures["reads"] -= 1
            raise kind("the connection is reset")
        return read(self, *size)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFile, "read", failing)
        run(ctc, source, out)
    assert failures["reads"] == 0
    assert merged(out) == expected
    # Where it does not end, the recordings become rows with errors.
    failures["reads"] = 1000
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFile, "read", failing)
        report = run(ctc, source, str(tmp_path / "other"))
    assert report.left == 0
    rows = [json.loads(line) for line in merged(str(tmp_path / "other")).splitlines()]
    assert {row.get("kind") for row in rows} == {"UnreadableAudio"}


def test_a_storage_that_fails_again_and_again_ends_a_worker(
    ctc: AsrPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_corpus(str(tmp_path)), str(tmp_path / "run")
    transcribe_corpus(transcriber(ctc), out, settings(source), stopped=lambda: True)
    tried: list[str] = []

    def failing(self: Storage, folder: str) -> list[str]:
        tried.append(folder)
        if folder == RESULTS:
            return []
        raise OutputError("The storage fails", "", "wait")

    monkeypatch.setattr(Storage, "names", failing)
    with pytest.raises(OutputError, match="The storage fails"):
        transcribe_corpus(transcriber(ctc), out, settings(source, lease_seconds=0.01))
    assert tried.count(FOLDER) > 5


def test_a_manifest_with_spans(ctc: AsrPipeline, tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    rows = [{"audio_filepath": "calls/2.wav", "offset": n / 4, "duration": 0.25} for n in range(4)]
    rows.append({"audio_filepath": "calls/2.wav", "offset": 9.0, "duration": 1.0})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(ctc, str(manifest), str(tmp_path / "run"))
    found = [json.loads(line) for line in merged(str(tmp_path / "run")).splitlines()]
    assert [row.get("audio_seconds") for row in found] == [0.25] * 4 + [None]
    assert found[-1]["kind"] == "EmptyAudio"
    assert [row["row"] for row in found] == rows
    # The options of a call choose a span of each excerpt.
    shifted = ShardTranscriber(ctc, options={"start": 0.1})
    out = str(tmp_path / "shifted")
    transcribe_corpus(shifted, out, CorpusSettings(str(manifest)))
    seconds = [json.loads(line).get("audio_seconds") for line in merged(out).splitlines()]
    assert seconds == [0.15] * 4 + [None]


@pytest.mark.parametrize("option", ["shard_seconds", "lease_seconds"])
def test_impossible_numbers_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match="has to be above 0"):
        settings("a", **{option: 0.0})
