"""Long jobs: nothing that was accepted is lost, whatever ends the server."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auris import AsrPipeline, Segment, Transcript, Word
from auris.errors import OutputError
from auris.server import jobs as jobs_module
from auris.server import work as work_module
from auris.server.failures import ApiError
from auris.server.form import Asked
from auris.server.jobs import JobStore
from auris.server.serving import Serving
from auris.server.settings import Settings
from auris.server.work import Workers
from tests.server.live import Live, running, speech, until
from tests.server.test_engine import said

ASKED = Asked("tiny")
SEGMENT = Segment(
    0.0, 2.0, "hello", "English", (1, 2), (-0.1, -0.2), "stop", (Word("hello", 0.1, 0.5),)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path)
    yield store
    store.close()


def _accept(store: JobStore, data: bytes = b"sound", owner: str = "me") -> str:
    return store.accept(owner, ASKED, io.BytesIO(data), 10).id


def test_a_job_s_life(store: JobStore) -> None:
    name = _accept(store)
    assert store.counts() == {"queued": 1}
    claimed = store.claim()
    assert claimed is not None
    assert (claimed.id, claimed.status) == (name, "running")
    assert store.claim() is None
    store.measured(name, 2.0)
    store.keep(name, 0, SEGMENT)
    assert store.kept(name) == {0: SEGMENT}
    with store.recording(name) as file:
        assert file.read() == b"sound"
    transcript = Transcript("hello", "English", (SEGMENT,), 0.9, "stop", 2.0, {"mel": 0.1}, 0.5)
    store.succeed(name, transcript)
    done = store.find(name, "me")
    assert done is not None
    assert done.over
    assert done.to_dict()["progress"] == {"seconds_done": 2.0, "seconds_total": 2.0}
    assert store.result(name) == transcript
    assert store.kept(name) == {}
    with pytest.raises(FileNotFoundError):
        store.recording(name)
    store.delete(name)
    assert store.find(name, "me") is None


def test_the_jobs_of_a_dead_worker_are_taken_up(
    tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _accept(store)
    monkeypatch.setattr(jobs_module, "LEASE_SECONDS", 0.3)
    assert store.claim() is not None
    store.keep(name, 0, SEGMENT)
    other = JobStore(tmp_path)
    assert other.claim() is None
    assert store.renew() == {name}
    time.sleep(0.35)
    taken = other.claim()
    assert taken is not None
    assert other.kept(name) == {0: SEGMENT}
    # The first worker, should it live after all, no longer has a say.
    store.keep(name, 1, SEGMENT)
    store.fail(name, ApiError(500, "late"))
    store.release(name)
    assert store.renew() == set()
    assert other.kept(name) == {0: SEGMENT}
    found = other.find(name, "me")
    assert found is not None
    assert found.status == "running"
    other.close()


def test_a_job_that_ends_the_server_is_given_up(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "LEASE_SECONDS", -1.0)
    name = _accept(store)
    for _ in range(jobs_module.MOST_ATTEMPTS):
        assert store.claim() is not None
    assert store.claim() is None
    found = store.find(name, "me")
    assert found is not None
    assert found.status == "failed"
    assert found.error is not None
    assert "ended each time" in found.error["message"]


def test_jobs_are_listed_from_the_newest_on(store: JobStore) -> None:
    names = [_accept(store) for _ in range(5)]
    _accept(store, owner="another")
    pages, last = [], None
    while page := store.listed("me", 2, last):
        pages.append([job.id for job in page])
        last = page[-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {name for page in pages for name in page} == set(names)
    assert [name for page in pages for name in page] == [j.id for j in store.listed("me", 9)]


def test_a_graceful_end_is_no_attempt(store: JobStore) -> None:
    name = _accept(store)
    for _ in range(3 * jobs_module.MOST_ATTEMPTS):
        assert store.claim() is not None
        store.release(name)


def test_an_owner_has_so_many_jobs(store: JobStore, tmp_path: Path) -> None:
    for _ in range(10):
        _accept(store)
    with pytest.raises(ApiError) as refused:
        _accept(store)
    assert refused.value.status == 429
    assert len(list((tmp_path / "recordings").iterdir())) == 10
    assert _accept(store, owner="somebody else")


def test_what_is_not_accepted_leaves_nothing(store: JobStore, tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        store.accept("me", ASKED, Full(), 10)
    assert list((tmp_path / "recordings").iterdir()) == []
    assert store.counts() == {}


def test_strays_are_removed(tmp_path: Path, store: JobStore) -> None:
    kept = _accept(store)
    old, new = tmp_path / "recordings" / "old", tmp_path / "recordings" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(tmp_path / "recordings" / kept, (0, 0))
    JobStore(tmp_path).close()
    assert {path.name for path in (tmp_path / "recordings").iterdir()} == {kept, "new"}


def test_a_job_that_has_been_over_for_long_is_removed(
    tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open ones stay, however old they are; and so do those that were over a moment ago."""
    now = time.time()
    monkeypatch.setattr(jobs_module.time, "time", lambda: now - 100)
    cancelled, waiting = _accept(store), _accept(store)
    store.cancel(cancelled)
    monkeypatch.setattr(jobs_module.time, "time", lambda: now)
    fresh = _accept(store)
    store.cancel(fresh)
    assert store.expire(101.0) == 0
    assert store.expire(99.0) == 1
    assert store.find(cancelled, "me") is None
    assert [job.id for job in store.listed("me", 10)] == [fresh, waiting]
    assert {path.name for path in (tmp_path / "recordings").iterdir()} == {waiting}


def test_a_server_forgets_jobs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "EXPIRY_SECONDS", 0.0)
    monkeypatch.setattr(work_module, "LEASE_SECONDS", 0.1)
    settings = Settings(
        models=("tiny-ctc",), device="cpu", keep_jobs_seconds=0.2, state_dir=str(tmp_path)
    )
    with running(settings) as live:
        job = _send(live, speech(1), model="tiny-ctc")
        until(lambda: _get(live, job["id"]).status_code == 404)
    assert list((tmp_path / "recordings").iterdir()) == []


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
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


def test_over_http(live: Live) -> None:
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


def test_a_broken_recording_is_refused_or_fails_with_its_reason(live: Live) -> None:
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


def test_cancelling(live: Live) -> None:
    job = _send(live, speech(25, pause=0.1), response_format="text")
    with live.client() as client:
        ended = client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert ended["status"] in ("cancelled", "succeeded")
    if ended["status"] == "cancelled":
        assert _get(live, f"{job['id']}/result").status_code == 409
    until(lambda: all(model.engine.load().under_way == 0 for model in live.server.serving))


class _Stopping:
    """Stops the workers once a piece was kept."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.kept = threading.Event()
        self._keep = store.keep

    def __call__(self, job: str, number: int, segment: Segment) -> None:
        self._keep(job, number, segment)
        self.kept.set()


def test_a_job_goes_on_where_it_was(tmp_path: Path, offline: AsrPipeline) -> None:
    """Pieces that were done before the stop are not recognized again, and the result is whole."""
    settings = Settings(models=("tiny",), device="cpu", batch_size=1, chunk_seconds=5.0)
    serving = Serving.load(settings)
    serving.start()
    store = JobStore(tmp_path)
    watched = _Stopping(store)
    store.keep = watched  # type: ignore[method-assign]
    data = speech(20)
    name = store.accept("me", ASKED, io.BytesIO(data), 10).id
    workers = Workers(store, serving, settings)
    workers.start()
    assert watched.kept.wait(30)
    workers.stop()
    found = store.find(name, "me")
    assert found is not None
    store.close()
    again = JobStore(tmp_path)
    before = again.kept(name)
    heard = serving.pick("tiny").engine.load().audio_seconds
    if not found.over:
        assert found.status == "queued"
        assert before
        others = Workers(again, serving, settings)
        others.start()
        until(lambda: again.counts() == {"succeeded": 1})
        others.stop()
        more = serving.pick("tiny").engine.load().audio_seconds - heard
        assert more < offline.transcribe(data).seconds - before[0].end + 1
    result = again.result(name)
    assert said(result) == said(offline.transcribe(data, chunk_seconds=5.0))
    again.close()
    serving.stop()
