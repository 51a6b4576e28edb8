"""The segments and the result of a job over HTTP."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from auris.types import Transcript
from tests.server.live import Live, speech, until

WORDS = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}


def _create(live: Live, data: bytes, **fields: object) -> str:
    with live.client() as client:
        created = client.post(
            "/v1/jobs", files={"file": ("a.wav", data)}, data={"model": "tiny", **fields}
        )
    assert created.status_code == 202, created.text
    return str(created.json()["id"])


def _get(live: Live, path: str, **query: object) -> Any:
    with live.client() as client:
        return client.get(f"/v1/jobs/{path}", params=query)


def _status(live: Live, job: str) -> str:
    return str(_get(live, job).json()["status"])


def test_segments_are_available_while_the_job_runs(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = live.server.store
    reached, resume = threading.Event(), threading.Event()
    succeed = store.succeed

    def wait(job: str, transcript: Transcript) -> None:
        reached.set()
        assert resume.wait(30)
        succeed(job, transcript)

    monkeypatch.setattr(store, "succeed", wait)
    data = speech(5)
    try:
        job = _create(live, data, **WORDS)
        assert reached.wait(60)
        assert _status(live, job) == "running"
        before = _get(live, f"{job}/segments").json()["data"]
        later = _get(live, f"{job}/segments", after=1).json()["data"]
    finally:
        resume.set()
    until(lambda: _status(live, job) == "succeeded")
    direct = live.transcribe(data, **WORDS).json()
    assert len(before) >= 2
    assert [word for segment in before for word in segment["words"]] == direct["words"]
    assert [{**segment, "words": None} for segment in before] == [
        {**segment, "words": None} for segment in direct["segments"]
    ]
    assert later == before[1:]
    assert _get(live, f"{job}/segments").json()["data"] == before
    assert _get(live, f"{job}/segments", after=len(before)).json()["data"] == []


def test_a_result_is_available_in_every_format(live: Live) -> None:
    data = speech(2)
    job = _create(live, data, **WORDS)
    until(lambda: _status(live, job) == "succeeded")
    for form in ("srt", "vtt"):
        words = {"timestamp_granularities[]": "word"}
        direct = live.transcribe(data, response_format=form, **words)
        got = _get(live, f"{job}/result", response_format=form)
        assert (got.text, got.headers["content-type"]) == (
            direct.text,
            direct.headers["content-type"],
        )
    text = _get(live, f"{job}/result", response_format="text").text
    assert text == live.transcribe(data, response_format="text").text
    plain = _get(live, f"{job}/result", response_format="json").json()
    assert plain == live.transcribe(data).json()
    whole = _get(live, f"{job}/result").json()
    assert whole == _get(live, f"{job}/result", response_format="verbose_json").json()
    refused = _get(live, f"{job}/result", response_format="diarized_json")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")


def test_segments_of_an_unknown_job_are_a_404(live: Live) -> None:
    assert _get(live, "job_none/segments").status_code == 404
    refused = _get(live, "job_none/segments", after=-1)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")
