"""Long jobs: no accepted job is lost, however the server ends."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auris import Segment, Word
from auris.errors import OutputError
from auris.server.errors import ApiError
from auris.server.jobs import files as files_module
from auris.server.jobs import runner as runner_module
from auris.server.jobs import store as store_module
from auris.server.jobs.store import Job, JobStore
from auris.server.settings import Settings
from auris.server.transcription_request import TranscriptionRequest
from tests.server.live import Live, running, speech, until

REQUEST = TranscriptionRequest(model="tiny")
MODELS = {"tiny": "digest"}
SEGMENT = Segment(
    0.0, 2.0, "hello", "English", (1, 2), (-0.1, -0.2), "stop", (Word("hello", 0.1, 0.5),)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path)
    yield store
    store.close()


def _accept(
    store: JobStore, data: bytes = b"sound", owner: str = "me", model: str = "digest"
) -> str:
    return store.accept(owner, REQUEST, model, io.BytesIO(data), 10).id


def _job_of(store: JobStore, job: str) -> Job:
    found = store.find(job, "me")
    assert found is not None
    return found


def test_the_life_cycle_of_a_job(store: JobStore) -> None:
    name = _accept(store)
    assert store.counts() == {"queued": 1}
    claimed = store.claim(MODELS)
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.attempts) == (name, "running", 1)
    assert store.claim(MODELS) is None
    store.set_length(name, 2.0)
    assert store.begin(name, "a") == []
    store.add_segment(name, SEGMENT)
    assert store.segments(name) == [SEGMENT]
    with store.recording(name) as file:
        assert file.read() == b"sound"
    store.succeed(name, {"text": "hello"})
    done = _job_of(store, name)
    assert done.status == "succeeded"
    assert done.to_dict()["progress"] == {"seconds_done": 2.0, "seconds_total": 2.0}
    assert store.answers(name) == {"text": "hello"}
    assert store.segments(name) == [SEGMENT]
    with pytest.raises(FileNotFoundError):
        store.recording(name)
    store.delete(name)
    assert store.find(name, "me") is None
    assert store.answers(name) == {}
    assert store.segments(name) == []


def test_jobs_of_a_dead_process_are_resumed(tmp_path: Path) -> None:
    first, other = JobStore(tmp_path), JobStore(tmp_path)
    name = _accept(first)
    assert first.claim(MODELS) is not None
    first.begin(name, "a")
    first.add_segment(name, SEGMENT)
    assert other.claim(MODELS) is None
    assert first.mine() == {name}
    first.close()
    assert other.claim(MODELS) is not None
    assert other.begin(name, "a") == [SEGMENT]
    other.close()


def _set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The time of day of the jobs; the rest of the process keeps its own."""
    clock = SimpleNamespace(time=lambda: seconds, monotonic=time.monotonic)
    for module in (store_module, files_module):
        monkeypatch.setattr(module, "time", clock)


def test_a_job_of_a_living_process_is_never_taken_over(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not from the process itself after a suspension or a change of the clock."""
    name = _accept(store)
    assert store.claim(MODELS) is not None
    _set_clock(monkeypatch, time.time() + 1e6)
    other = JobStore(tmp_path)
    assert store.claim(MODELS) is None
    assert other.claim(MODELS) is None
    assert store.mine() == {name}
    other.close()


def test_a_process_that_lost_its_job_cannot_change_it(store: JobStore) -> None:
    """A cancelled job is not changed by the thread that is still running it."""
    name = _accept(store)
    assert store.claim(MODELS) is not None
    store.begin(name, "a")
    store.cancel(name)
    store.add_segment(name, SEGMENT)
    store.succeed(name, {"text": "late"})
    store.fail(name, ApiError(500, "late"))
    store.release(name)
    found = _job_of(store, name)
    assert (found.status, found.error, found.done) == ("cancelled", None, 0.0)
    assert store.segments(name) == []
    assert store.answers(name) == {}
    assert store.mine() == set()


def _kill(store: JobStore, tmp_path: Path) -> JobStore:
    """Another process's store after the end of this one's."""
    store.close()
    return JobStore(tmp_path)


def test_a_job_that_crashes_the_server_fails_alone(tmp_path: Path) -> None:
    """It is retried alone, so that jobs which ran at the same time do not fail; its recording
    stays."""
    store = JobStore(tmp_path)
    poison, healthy = _accept(store), _accept(store)
    assert [store.claim(MODELS, idle=True), store.claim(MODELS, idle=False)] != [None, None]
    for _ in range(store_module.MOST_ATTEMPTS - 1):
        store = _kill(store, tmp_path)
        claimed = store.claim(MODELS, idle=True)
        assert claimed is not None
        assert claimed.id == poison
        assert store.claim(MODELS, idle=False) is None
    store = _kill(store, tmp_path)
    last = store.claim(MODELS, idle=True)
    assert last is not None
    assert last.id == healthy
    found = _job_of(store, poison)
    assert found.status == "failed"
    assert found.error is not None
    assert "ended each time" in found.error["message"]
    assert store.folder.recording(poison).read_bytes() == b"sound"
    store.expire(1e9)
    os.utime(store.folder.recording(poison), (0, 0))
    store.expire(1e9)
    assert store.folder.recording(poison).exists()
    store.delete(poison)
    assert not store.folder.recording(poison).exists()
    store.close()


def test_a_job_that_makes_progress_between_kills_does_not_fail(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    name = _accept(store)
    for number in range(3 * store_module.MOST_ATTEMPTS):
        assert store.claim(MODELS) is not None
        store.begin(name, "a")
        store.add_segment(name, replace(SEGMENT, end=2.0 + number))
        store = _kill(store, tmp_path)
    store.close()


def test_segments_with_another_fingerprint_are_not_reused(tmp_path: Path, store: JobStore) -> None:
    name = _accept(store)
    assert store.claim(MODELS) is not None
    store.begin(name, "a")
    store.add_segment(name, SEGMENT)
    assert store.begin(name, "a") == [SEGMENT]
    assert _job_of(store, name).done == 2.0
    assert store.begin(name, "b") == []
    assert store.segments(name) == []
    assert _job_of(store, name).done == 0.0
    assert store.begin(name, "a") == []


def test_a_partial_line_of_a_killed_process_is_removed(store: JobStore) -> None:
    name = _accept(store)
    assert store.claim(MODELS) is not None
    store.begin(name, "a")
    store.add_segment(name, SEGMENT)
    path = store.folder.segments(name)
    whole = path.read_bytes()
    for end in (b'{"start": 2', b"\0\0\0\n"):
        path.write_bytes(whole + end)
        assert store.segments(name) == [SEGMENT]
        assert store.begin(name, "a") == [SEGMENT]
        assert path.read_bytes() == whole


def test_a_server_runs_only_jobs_for_its_models(tmp_path: Path, store: JobStore) -> None:
    other = JobStore(tmp_path)
    theirs, ours = _accept(store, model="theirs"), _accept(store)
    assert other.claim({"tiny": "theirs", "alias": "theirs"}, idle=False) is not None
    other.release(theirs)
    claimed = store.claim(MODELS)
    assert claimed is not None
    assert claimed.id == ours
    assert store.claim(MODELS) is None
    assert other.claim({"small": "else"}) is None
    again = other.claim({"any name": "theirs"})
    assert again is not None
    assert (again.id, again.model) == (theirs, "theirs")
    other.close()


def test_a_job_for_an_unserved_model_runs_on_a_model_of_the_same_name(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some time, in which a server with that model could be started again."""
    name = _accept(store, model="replaced")
    assert store.claim(MODELS) is None
    other = JobStore(tmp_path)
    assert other.claim({"else": "replaced"}) is not None
    other.release(name)
    monkeypatch.setattr(store_module, "UNSERVED_SECONDS", 0.0)
    assert store.claim(MODELS) is None
    other.close()
    assert store.claim({"else": "digest"}) is None
    claimed = store.claim(MODELS)
    assert claimed is not None
    assert (claimed.id, claimed.model) == (name, "digest")


def test_jobs_are_listed_newest_first(store: JobStore) -> None:
    names = [_accept(store) for _ in range(5)]
    _accept(store, owner="another")
    pages, last = [], None
    while page := store.listed("me", 2, last):
        pages.append([job.id for job in page])
        last = page[-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    newest_first = [name for page in pages for name in page]
    assert set(newest_first) == set(names)
    assert newest_first == [job.id for job in store.listed("me", 9)]
    created = [job.created for job in store.listed("me", 9)]
    assert created == sorted(created, reverse=True)
    assert len(set(created)) > 1


def test_a_graceful_shutdown_is_not_counted_as_an_attempt(store: JobStore) -> None:
    name = _accept(store)
    for _ in range(3 * store_module.MOST_ATTEMPTS):
        assert store.claim(MODELS) is not None
        store.release(name)


def test_the_number_of_jobs_per_owner_is_limited(store: JobStore, tmp_path: Path) -> None:
    for _ in range(10):
        _accept(store)
    with pytest.raises(ApiError) as refused:
        _accept(store)
    assert refused.value.status == 429
    assert len(list((tmp_path / "recordings").iterdir())) == 10
    assert _accept(store, owner="somebody else")


def test_a_refused_job_leaves_no_files(store: JobStore, tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        store.accept("me", REQUEST, "digest", Full(), 10)
    assert list((tmp_path / "recordings").iterdir()) == []
    assert store.counts() == {}


def test_files_without_a_job_are_removed(tmp_path: Path, store: JobStore) -> None:
    """Only files whose names the server generates."""
    kept = _accept(store)
    names = {"old": f"job_{'0' * 32}", "new": f"job_{'1' * 32}", "foreign": "interview.wav"}
    for folder in ("recordings", "segments", "results"):
        for name in names.values():
            (tmp_path / folder / name).write_bytes(b"x")
            if name != names["new"]:
                os.utime(tmp_path / folder / name, (0, 0))
    os.utime(tmp_path / "recordings" / kept, (0, 0))
    JobStore(tmp_path).close()
    left = {path.name for path in (tmp_path / "recordings").iterdir()}
    assert left == {kept, names["new"], names["foreign"]}
    for folder in ("segments", "results"):
        left = {path.name for path in (tmp_path / folder).iterdir()}
        assert left == {names["new"], names["foreign"]}


def test_expired_jobs_are_removed(
    tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unfinished jobs stay, however old they are, as do recently finished ones."""
    now = time.time()
    _set_clock(monkeypatch, now - 100)
    cancelled, waiting = _accept(store), _accept(store)
    store.cancel(cancelled)
    _set_clock(monkeypatch, now)
    fresh = _accept(store)
    store.cancel(fresh)
    assert store.expire(101.0) == 0
    assert store.expire(99.0) == 1
    assert store.find(cancelled, "me") is None
    assert [job.id for job in store.listed("me", 10)] == [fresh, waiting]
    assert {path.name for path in (tmp_path / "recordings").iterdir()} == {waiting}


def test_the_server_removes_expired_jobs_regularly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "EXPIRY_SECONDS", 0.0)
    monkeypatch.setattr(runner_module, "WATCH_SECONDS", 0.02)
    settings = Settings(
        models=("tiny-ctc",), device="cpu", keep_jobs_seconds=0.2, state_dir=str(tmp_path)
    )
    with running(settings) as live:
        job = _send(live, speech(1), model="tiny-ctc")
        until(lambda: _get(live, job["id"]).status_code == 404)
    assert list((tmp_path / "recordings").iterdir()) == []


def test_an_unusable_job_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="state_dir"):
        JobStore(tmp_path / "file")


def _send(live: Live, data: bytes, **fields: object) -> dict[str, Any]:
    with live.client() as client:
        response = client.post(
            "/v1/jobs", files={"file": ("a.wav", data)}, data={"model": "tiny", **fields}
        )
    assert response.status_code == 202, response.text
    return dict(response.json())


def _get(live: Live, path: str) -> Any:
    with live.client() as client:
        return client.get(f"/v1/jobs/{path}")


def _over(live: Live, job: str) -> Callable[[], bool]:
    return lambda: _get(live, job).json()["status"] not in ("queued", "running")


def test_jobs_over_http(live: Live) -> None:
    job = _send(live, speech(3), response_format="verbose_json")
    assert job["object"] == "transcription.job"
    until(_over(live, job["id"]))
    status = _get(live, job["id"]).json()
    assert status["status"] == "succeeded"
    assert status["progress"]["seconds_done"] == pytest.approx(status["progress"]["seconds_total"])
    result = _get(live, f"{job['id']}/result").json()
    direct = live.transcribe(speech(3), response_format="verbose_json").json()
    assert result == direct
    with live.client() as client:
        assert job["id"] in [one["id"] for one in client.get("/v1/jobs").json()["data"]]
        older = client.get("/v1/jobs", params={"after": job["id"]}).json()["data"]
        assert job["id"] not in [one["id"] for one in older]
        assert client.delete(f"/v1/jobs/{job['id']}").json()["deleted"] is True
        unknown = client.get("/v1/jobs", params={"after": job["id"]})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "after")
    assert _get(live, job["id"]).status_code == 404


def test_a_broken_recording_is_refused_or_its_job_fails_with_the_reason(live: Live) -> None:
    with live.client() as client:
        response = client.post(
            "/v1/jobs", files={"file": ("a.wav", b"no sound")}, data={"model": "tiny"}
        )
        assert response.status_code == 400
        response = client.post(
            "/v1/jobs",
            files={"file": ("a.wav", speech(1))},
            data={"model": "tiny", "stream": "true"},
        )
        assert response.json()["error"]["param"] == "stream"
    whole = speech(1)
    job = _send(live, whole[: len(whole) // 2])
    until(_over(live, job["id"]))
    status = _get(live, job["id"]).json()
    assert status["status"] == "failed"
    assert status["error"]["code"] == "invalid_audio"
    result = _get(live, f"{job['id']}/result")
    assert result.status_code == 409
    assert result.json()["error"]["param"] == "file"


def test_a_job_can_be_cancelled(live: Live) -> None:
    job = _send(live, speech(25, pause=0.1), response_format="text")
    with live.client() as client:
        ended = client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert ended["status"] in ("cancelled", "succeeded")
    if ended["status"] == "cancelled":
        assert _get(live, f"{job['id']}/result").status_code == 409
    until(lambda: all(model.engine.load().active == 0 for model in live.server.models))
