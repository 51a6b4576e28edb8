"""The fields of a request: what is honoured, and what is refused by name."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from auris.audio.io import load
from tests.audio.media import encode, pcm
from tests.server.live import EXAMPLE, SAID, Live, speech

Fields = dict[str, object]


def _error(response: httpx.Response, status: int, param: str | None) -> dict[str, str]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    return dict(error)


REFUSED: list[tuple[Fields, str]] = [
    ({"language": "xx"}, "language"),
    ({"languages[]": ["en", "xx"]}, "languages[]"),
    ({"language": "en", "languages[]": ["de"]}, "languages[]"),
    ({"language": "de"}, "language"),
    ({"languages[]": ["en", "de"]}, "language"),
    ({"temperature": "1.5"}, "temperature"),
    ({"temperature": "nan"}, "temperature"),
    ({"temperature": "warm"}, "temperature"),
    ({"response_format": "xml"}, "response_format"),
    ({"response_format": "diarized_json"}, "response_format"),
    ({"stream": "maybe"}, "stream"),
    ({"stream": "true", "response_format": "srt"}, "stream"),
    ({"stream": "true", "response_format": "verbose_json"}, "stream"),
    ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]"),
    (
        {"timestamp_granularities[]": "letter", "response_format": "verbose_json"},
        "timestamp_granularities[]",
    ),
    ({"include[]": "everything"}, "include[]"),
    ({"include[]": "logprobs", "response_format": "text"}, "include[]"),
    ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
    ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy"),
    ({"known_speaker_names[]": "Ann"}, "known_speaker_names[]"),
    ({"known_speaker_references[]": "data:audio/wav;base64,AAAA"}, "known_speaker_references[]"),
    ({"prompt": "x" * 5000}, "prompt"),
    ({"keywords[]": ["x" * 3000] * 2}, "keywords[]"),
    ({"beam_size": "5"}, "beam_size"),
    ({"prompt[]": "a"}, "prompt[]"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"url": "http://example.org/a.wav"}, "url"),
    ({"model": "whisper-2"}, "model"),
    ({"model": ""}, "model"),
    ({"model": "tiny-ctc", "prompt": "Zoë"}, "prompt"),
    ({"model": "tiny-ctc", "keywords[]": "Zoë"}, "prompt"),
    ({"model": "tiny-ctc", "temperature": "0.5"}, "temperature"),
    ({"model": "tiny-ctc", "language": "de"}, "language"),
    ({"model": "tiny-ctc", "languages[]": ["de", "fr"]}, "language"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_done_is_refused(
    live: Live, example: bytes, fields: Fields, param: str
) -> None:
    status = 404 if fields.get("model") == "whisper-2" else 400
    error = _error(live.transcribe(example, **fields), status, param)
    assert error["type"] == "invalid_request_error"
    assert "--" not in error["message"], "the command line's options are not the caller's"


HONOURED: list[Fields] = [
    {},
    {"model": "whisper-1"},
    {"language": "en"},
    {"languages[]": "en"},
    {"language": "en", "languages[]": ["English"]},
    {"languages": "English"},
    {"prompt": "kitchen fan"},
    {"keywords[]": ["kitchen", "fan"]},
    {"temperature": "0"},
    {"chunking_strategy": "auto"},
    {"stream": "false"},
    {"prompt": "", "language": ""},
]


@pytest.mark.parametrize("fields", HONOURED, ids=str)
def test_what_can_be_done_is_done(live: Live, example: bytes, fields: Fields) -> None:
    response = live.transcribe(example, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["text"] == SAID


def test_a_temperature_draws(live: Live) -> None:
    """Drawn texts differ from the best one where the model is unsure, and repeat themselves."""
    backwards = load(EXAMPLE).samples[::-1]
    data = encode(pcm(np.tile(backwards, 4)[None]), 16_000, "wav", "pcm_s16le")
    best = live.transcribe(data, prompt="zzz zzz zzz").json()["text"]
    drawn = [live.transcribe(data, temperature="1", prompt="zzz zzz zzz").json() for _ in "ab"]
    assert drawn[0] == drawn[1]
    assert drawn[0]["text"] != best


def test_translations_are_refused(live: Live, example: bytes) -> None:
    with live.client() as client:
        for data, status, param in (
            ({"model": "tiny"}, 400, "model"),
            ({"model": "none"}, 404, "model"),
            ({"model": "tiny", "language": "en"}, 400, "language"),
            ({}, 400, "model"),
        ):
            response = client.post(
                "/v1/audio/translations", files={"file": ("a.flac", example)}, data=data
            )
            _error(response, status, param)


def test_a_request_needs_a_recording(live: Live) -> None:
    with live.client() as client:
        response = client.post("/v1/audio/transcriptions", data={"model": "tiny"})
        _error(response, 400, "file")
        response = client.post("/v1/audio/transcriptions", json={"model": "tiny"})
        _error(response, 400, "model")
        response = client.post(
            "/v1/audio/transcriptions", files={"file": b""}, data={"model": "tiny"}
        )
        _error(response, 400, "file")


def test_file_and_url_exclude_each_other(live: Live, example: bytes) -> None:
    _error(live.transcribe(example, url="http://a/b.wav"), 400, "url")
    with live.client() as client:
        data = {"model": "tiny", "url": "http://127.0.0.1/a.wav"}
        response = client.post("/v1/audio/transcriptions", data=data)
        assert "does not fetch" in _error(response, 400, "url")["message"]


def test_streams_are_events(live: Live) -> None:
    response = live.transcribe(speech(2), stream="true")
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    kinds = [event["type"] for event in events]
    assert kinds == ["transcript.text.delta", "transcript.text.done"]
    assert events[-1]["text"] == "".join(event["delta"] for event in events[:-1])


def test_unknown_places_have_the_api_s_errors(live: Live) -> None:
    with live.client() as client:
        _error(client.get("/v1/nothing"), 404, None)
        _error(client.get("/v1/audio/transcriptions"), 405, None)
        _error(client.get("/v1/models/none"), 404, "model")
        _error(client.get("/v1/jobs", params={"limit": "many"}), 400, None)
        assert client.get("/v1/models/tiny-ctc").json()["id"] == "tiny-ctc"
