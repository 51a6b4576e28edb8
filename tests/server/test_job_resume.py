"""A resumed job has the result of an uninterrupted run with the current options."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import Segment
from auris.audio.io import load
from auris.server.errors import ClientDisconnected
from auris.server.jobs import runner as runner_module
from auris.server.jobs.runner import JobRunner
from auris.server.jobs.store import JobStore
from auris.server.model_registry import ModelRegistry
from auris.server.settings import Settings
from auris.server.transcription_request import TranscriptionRequest
from tests.audio.media import encode, pcm
from tests.server.live import EXAMPLE, Live, running, speech, until

BEFORE = Settings(models=("tiny",), device="cpu", batch_size=1, lm="none")
REQUEST = TranscriptionRequest(model="tiny", response_format="verbose_json")


def with_silences(repeats: int = 2) -> bytes:
    """The example and prefixes of it, with silences of 5 s and more between, which are skipped."""
    samples = load(EXAMPLE).samples
    parts = []
    for number in range(repeats):
        for share, pause in ((1.0, 5.5), (0.55, 0.8), (0.8, 6.5), (1.0, 0.7), (0.3, 7.0)):
            parts.append(samples[: round(share * len(samples))])
            parts.append(np.zeros(round((pause + 0.01 * number) * 16_000), np.float32))
    return encode(pcm(np.concatenate(parts)[None]), 16_000, "wav", "pcm_s16le")


@contextmanager
def working(
    directory: Path, settings: Settings
) -> Iterator[tuple[JobStore, ModelRegistry, JobRunner]]:
    """A server without HTTP; its workers are not started yet."""
    models = ModelRegistry.load(settings)
    models.start()
    store = JobStore(directory)
    workers = JobRunner(store, models, settings)
    try:
        yield store, models, workers
    finally:
        workers.stop()
        models.stop()
        store.close()


def _accept(
    store: JobStore, models: ModelRegistry, request: TranscriptionRequest, data: bytes
) -> str:
    digest = models.pick(request.model).digest
    return store.accept("me", request, digest, io.BytesIO(data), 10).id


def undisturbed(
    directory: Path, settings: Settings, request: TranscriptionRequest, data: bytes
) -> tuple[dict[str, Any], float]:
    """The answers of an uninterrupted job, and the seconds of audio that were recognized."""
    with working(directory, settings) as (store, models, workers):
        job = _accept(store, models, request, data)
        workers.start()
        until(lambda: store.counts() == {"succeeded": 1}, 120)
        return store.answers(job), models.pick(request.model).engine.load().audio_seconds


def _log_probabilities(answers: dict[str, Any]) -> list[float]:
    """Take the log-probabilities of the segments out of answers."""
    segments = answers["verbose_json"]["segments"]
    return [segment.pop("avg_logprob") for segment in segments]


def _interrupted(
    directory: Path, request: TranscriptionRequest, data: bytes, segments: int = 5
) -> str:
    """A job with some stored segments when its server stopped."""
    with working(directory, BEFORE) as (store, models, workers):
        enough, add_segment = threading.Event(), store.add_segment

        def watched(job: str, segment: Segment) -> None:
            add_segment(job, segment)
            if len(store.segments(job)) >= segments:
                enough.set()
                assert workers._runs[job].wait(60), "the server does not stop"

        store.add_segment = watched
        job = _accept(store, models, request, data)
        workers.start()
        assert enough.wait(60)
        workers.stop()
        assert store.counts() == {"queued": 1}
        assert len(store.segments(job)) == segments
        assert any(segment.skipped for segment in store.segments(job))
        return job


def _check_continued(
    directory: Path, after: Settings, request: TranscriptionRequest, data: bytes
) -> None:
    """An interrupted job has the answers of an uninterrupted one with the options at its end, and
    stored segments are recognized again only if the options have changed."""
    expected, seconds = undisturbed(directory / "undisturbed", after, request, data)
    job = _interrupted(directory / "state", request, data)
    with working(directory / "state", after) as (store, models, workers):
        workers.start()
        until(lambda: store.counts() == {"succeeded": 1}, 120)
        answers = store.answers(job)
        if after.batch_size > 1:
            # Which chunks share a batch depends on timing, and changes the last digit of sums.
            assert _log_probabilities(answers) == pytest.approx(
                _log_probabilities(expected), abs=1e-5
            )
        assert answers == expected
        recognized = models.pick("tiny").engine.load().audio_seconds
    if replace(after, batch_size=BEFORE.batch_size) == BEFORE:
        assert recognized < seconds
    else:
        assert recognized == seconds


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chunk_seconds": 1.5},
        {"dtype": "int8"},
        {"batch_size": 4},
    ],
    ids=str,
)
def test_a_resumed_job_has_the_result_of_an_uninterrupted_one(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    _check_continued(tmp_path, replace(BEFORE, **changes), REQUEST, with_silences())


def test_a_full_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The job succeeds nevertheless."""

    def full(job: str, segment: Segment) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with working(tmp_path, replace(BEFORE, chunk_seconds=1.5)) as (store, models, workers):
        store.add_segment = full
        job = _accept(store, models, REQUEST, speech(5))
        workers.start()
        until(lambda: store.counts() == {"succeeded": 1})
        assert store.answers(job)["text"]
    assert caplog.text.count("could not be stored") == 1


def test_a_job_that_finds_the_disk_full_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner_module, "measured", full)
    with working(tmp_path, replace(BEFORE, models=("tiny-ctc",))) as (store, models, workers):
        request = REQUEST.model_copy(update={"model": "tiny-ctc"})
        job = _accept(store, models, request, speech(1))
        workers.start()
        until(lambda: store.counts() == {"failed": 1})
        found = store.find(job, "me")
    assert found is not None
    assert found.error is not None
    assert found.error["code"] == "insufficient_storage"


def test_word_timestamps_are_resumed(tmp_path: Path) -> None:
    _check_continued(
        tmp_path,
        BEFORE,
        REQUEST.model_copy(update={"timestamp_granularities": ("word", "segment")}),
        with_silences(),
    )


def test_channels_are_resumed_separately(tmp_path: Path) -> None:
    mono = load(io.BytesIO(with_silences())).samples
    data = encode(pcm(np.stack([mono, np.roll(mono, 40_000)])), 16_000, "wav", "pcm_s16le")
    request = TranscriptionRequest(
        model="tiny", response_format="diarized_json", known_speaker_names=("Ada", "Bo")
    )
    _check_continued(tmp_path, BEFORE, request, data)


def _job(live: Live, model: str) -> str:
    with live.client() as client:
        response = client.post(
            "/v1/jobs", files={"file": ("a.wav", speech(2))}, data={"model": model}
        )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def _get(live: Live, path: str) -> Any:
    with live.client() as client:
        return client.get(f"/v1/jobs/{path}")


def test_servers_with_different_models_share_a_job_folder(tmp_path: Path) -> None:
    """Each runs the jobs of its models, and each returns all results."""
    settings = Settings(models=("tiny",), device="cpu", state_dir=str(tmp_path))
    with running(settings) as one, running(replace(settings, models=("tiny-ctc",))) as other:
        jobs = {
            _job(live, model)
            for _ in range(3)
            for live, model in ((one, "tiny"), (other, "tiny-ctc"))
        }
        for job in jobs:
            until(lambda job=job: _get(one, job).json()["finished_at"])
        for job in jobs:
            answers = [_get(live, f"{job}/result") for live in (one, other)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].json() == answers[1].json()
            assert _get(other, f"{job}/result?response_format=srt").status_code == 200
    with running(replace(settings, models=("tiny-ctc",))) as last:
        assert all(_get(last, f"{job}/result").status_code == 200 for job in jobs)


def test_a_job_waits_for_a_server_with_its_model(tmp_path: Path) -> None:
    settings = Settings(models=("tiny",), device="cpu", state_dir=str(tmp_path))
    with working(tmp_path, settings) as (store, models, _):
        job = _accept(store, models, REQUEST, speech(1))
    with running(replace(settings, models=("tiny-ctc",))) as other:
        ours = _job(other, "tiny-ctc")
        until(lambda: _get(other, ours).json()["status"] == "succeeded")
    with working(tmp_path, settings) as (store, _, workers):
        assert store.counts() == {"queued": 1, "succeeded": 1}
        workers.start()
        until(lambda: store.counts() == {"succeeded": 2})
        assert store.answers(job)["text"]


def test_a_job_that_was_running_at_a_crash_is_retried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake crash in `measured`, which decodes: the process seems to be killed by one job."""
    settings = replace(BEFORE, models=("tiny-ctc",))
    request = REQUEST.model_copy(update={"model": "tiny-ctc"})
    crashed, ended = threading.Event(), threading.Event()
    seen: list[set[str]] = []
    runners: list[JobRunner] = []

    def measured(file: Any, *options: Any) -> Any:
        if file.read(6) == b"poison":
            seen.append(set(runners[-1]._runs))
            crashed.set()
            ended.wait()  # The thread of a killed process does nothing more.
            raise ClientDisconnected
        return whole(file, *options)

    whole = runner_module.measured
    monkeypatch.setattr(runner_module, "measured", measured)
    models = ModelRegistry.load(settings)
    models.start()
    store = JobStore(tmp_path)
    try:
        poison = _accept(store, models, request, b"poison")
        healthy = [_accept(store, models, request, speech(1)) for _ in range(3)]
        for _ in range(10):
            crashed.clear()
            runners.append(JobRunner(store, models, settings))
            runners[-1].start()
            until(lambda store=store: crashed.is_set() or store.counts().get("failed"))
            if store.counts().get("failed"):
                break
            runners[-1]._stopping.set()
            store.close()
            store = JobStore(tmp_path)
        until(lambda: store.counts() == {"failed": 1, "succeeded": 3})
        found = store.find(poison, "me")
        assert found is not None
        assert found.error is not None
        assert found.error["code"] == "job_crashed"
        assert all(runs == {poison} for runs in seen[1:])
        assert all(store.answers(job)["text"] for job in healthy)
    finally:
        ended.set()
        for workers in runners:
            workers.stop()
        models.stop()
        store.close()
