"""Spans of requests, and request identifiers in lines of the log."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from auris.errors import EngineError, MissingExtra
from auris.server.log import PRESENT_REQUEST, JsonLines
from auris.server.pools import Lane
from auris.server.settings import Settings
from auris.server.tracing import Tracing, span
from tests.server.live import running

CALLER = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_is_a_span_with_its_parts(
    example: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(Tracing, "load", classmethod(lambda cls, enabled: cls(provider)))
    settings = Settings(models=("tiny",), device="cpu", batch_size=2, state_dir=str(tmp_path))
    headers = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01", "x-request-id": "mine"}
    with running(settings) as live, live.client(**headers) as client:
        fields = {"model": "tiny"}
        files = {"file": ("a.wav", example)}
        assert client.post("/v1/audio/transcriptions", files=files, data=fields).status_code == 200
        files = {"file": ("a.wav", example[:100])}
        assert client.post("/v1/audio/transcriptions", files=files, data=fields).status_code == 400
    spans = exporter.get_finished_spans()
    assert [one.name for one in spans[:3]] == [
        "decode",
        "recognize",
        "POST /v1/audio/transcriptions",
    ]
    decode, recognize, request, refused, wrong = spans
    assert f"{request.context.trace_id:x}" == CALLER[1:]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["auris.request_id"] == "mine"
    assert {one.parent.span_id for one in (decode, recognize)} == {request.context.span_id}
    assert decode.attributes["auris.bytes"] == len(example)
    assert recognize.attributes["auris.encode_seconds"] > 0
    assert recognize.attributes["auris.decode_seconds"] > 0
    assert refused.attributes["error.type"] == "UnreadableAudio"
    assert wrong.attributes["error.type"] == "invalid_audio"
    assert not any(one.events for one in spans)


def test_without_tracing_there_are_no_spans() -> None:
    with Tracing().request({}) as request, span("decode", bytes=1) as attributes:
        attributes["more"] = 2
    assert request is None
    Tracing.load(False).close()


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[traces\]"):
        Tracing.load(True)


def test_an_exporter_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "speech")
    # Nothing listens there, and nothing is sent where there was no request.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = Tracing.load(True)
    assert tracing._provider.resource.attributes["service.name"] == "speech"
    tracing.close()


def test_lines_of_the_log_name_the_request_also_in_other_threads() -> None:
    lane = Lane("test", 1)
    lines = []

    def work() -> None:
        record = logging.LogRecord("auris", logging.INFO, "", 0, "a line", (), None)
        lines.append(json.loads(JsonLines().format(record)))
        raise EngineError("", "", "")

    before = PRESENT_REQUEST.set("req_1")
    done = lane.submit(work)
    PRESENT_REQUEST.reset(before)
    with pytest.raises(EngineError):
        done.result(30)
    lane.submit(lambda: lines.append({})).result(30)
    lane.close()
    assert lines[0]["request_id"] == "req_1"
