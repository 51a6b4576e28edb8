"""The parameters of a request: which are supported, and which are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from auris import AsrPipeline
from auris.audio.io import load
from auris.recognition.hotwords import CONTEXT_AS_HOTWORDS, HOTWORDS_WITHOUT_LETTERS
from auris.server.engine import Load, Priority
from auris.server.metrics import Metrics
from auris.server.settings import Settings
from auris.text.languages import LANGUAGES
from tests.audio.media import encode, pcm
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live, running, speech
from tests.server.malformed import BOUNDARY, PATH, form
from tests.tiny_models import write_tiny

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
    ({"stream": "maybe"}, "stream"),
    ({"stream": "true", "response_format": "srt"}, "stream"),
    ({"formats[]": "srt"}, "formats[]"),
    ({"formats[]": "diarized_json", "stream": "true"}, "formats[]"),
    ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]"),
    (
        {"timestamp_granularities[]": "segment", "response_format": "srt"},
        "timestamp_granularities[]",
    ),
    (
        {"timestamp_granularities[]": "letter", "response_format": "verbose_json"},
        "timestamp_granularities[]",
    ),
    ({"include[]": "everything"}, "include[]"),
    ({"include[]": "logprobs", "response_format": "text"}, "include[]"),
    ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
    ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy"),
    ({"chunking_strategy[]": "auto"}, "chunking_strategy[]"),
    ({"known_speaker_names[]": "Ann"}, "known_speaker_names[]"),
    ({"known_speaker_references[]": "data:audio/wav;base64,AAAA"}, "known_speaker_references[]"),
    ({"prompt": "x" * 5000}, "prompt"),
    ({"keywords[]": ["x" * 3000] * 2}, "keywords[]"),
    ({"beam_size": "17"}, "beam_size"),
    ({"beam_size": "2", "temperature": "0.5"}, "temperature"),
    ({"keywords[]": "Ada", "temperature": "0.5"}, "temperature"),
    ({"prompt": "Ada", "temperature": "0.5"}, "temperature"),
    ({"clean[]": "casing"}, "clean[]"),
    ({"clean[]": ["simplified", "traditional"]}, "clean[]"),
    ({"clean[]": "numbers", "language": "de"}, "clean[]"),
    ({"prompt[]": "a"}, "prompt[]"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"url": "http://example.org/a.wav"}, "url"),
    ({"model": "whisper-2"}, "model"),
    ({"model": ""}, "model"),
    ({"model": "tiny-ctc", "temperature": "0.5"}, "temperature"),
    ({"model": "tiny-ctc", "language": "de"}, "language"),
    ({"model": "tiny-ctc", "languages[]": ["de", "fr"]}, "language"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_unsupported_requests_are_refused(
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
    {"temperature": "0"},
    {"chunking_strategy": "auto"},
    {"stream": "false"},
    {"prompt": "", "language": ""},
    {"clean[]": ["numbers", "punctuation"]},
]


@pytest.mark.parametrize("fields", HONOURED, ids=str)
def test_supported_requests_are_accepted(live: Live, example: bytes, fields: Fields) -> None:
    response = live.transcribe(example, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["text"] == EXAMPLE_TEXT


def test_texts_are_cleaned_up(live: Live, example: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auris.text.cleanup.in_digits", lambda text: f"{text} 7")
    fields: Fields = {"clean[]": "numbers", "response_format": "verbose_json"}
    answer = live.transcribe(example, **fields).json()
    assert answer["text"] == answer["segments"][0]["text"] == f"{EXAMPLE_TEXT} 7"


def test_a_temperature_samples(live: Live) -> None:
    """Samples differ from the best text where the model is unsure, and are repeatable."""
    backwards = load(EXAMPLE).samples[::-1]
    data = encode(pcm(np.tile(backwards, 4)[None]), 16_000, "wav", "pcm_s16le")
    best = live.transcribe(data).json()["text"]
    drawn = [live.transcribe(data, temperature="1").json() for _ in "ab"]
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
        response = client.post("/v1/audio/transcriptions", data={"prompt": "x"})
        _error(response, 400, "model")
        response = client.post(
            "/v1/audio/transcriptions", files={"file": b""}, data={"model": "tiny"}
        )
        _error(response, 400, "file")


def test_errors_name_only_parameters_of_the_api(live: Live) -> None:
    whole = speech(2)
    error = _error(live.transcribe(whole[: len(whole) // 2]), 400, "file")
    assert "seconds of the given file can be read" in error["message"]
    assert error["message"].endswith(": get or encode the file anew.")


def test_text_fields_must_be_valid_text(live: Live, example: bytes) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with live.client(**kind) as client:
        response = client.post(PATH, content=form(example, prompt=b"\xff\xfe"))
        assert "no text in utf-8" in _error(response, 400, "prompt")["message"]
        response = client.post(PATH, content=form(example, language="ä".encode()))
        assert "'ä'" in _error(response, 400, "language")["message"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", ""])
def test_a_body_that_is_not_a_form_is_refused(live: Live, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for place in (PATH, "/v1/jobs"):
        with live.client() as client:
            response = client.post(place, content=b'{"model": "tiny"}', headers=headers)
        message = _error(response, 400, None)["message"]
        assert "multipart/form-data" in message
        assert (kind.partition(";")[0] or "no Content-Type") in message


def test_file_and_url_exclude_each_other(live: Live, example: bytes) -> None:
    _error(live.transcribe(example, url="http://a/b.wav"), 400, "url")
    with live.client() as client:
        data = {"model": "tiny", "url": "http://127.0.0.1/a.wav"}
        response = client.post("/v1/audio/transcriptions", data=data)
        assert "does not fetch" in _error(response, 400, "url")["message"]


def _events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    lines = [line for line in response.text.split("\n\n") if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_streaming_supports_timestamps_and_other_formats(live: Live) -> None:
    """They equal those of other requests for the same recording."""
    data, times = speech(2), {"timestamp_granularities[]": ["word", "segment"]}
    whole = live.transcribe(data, response_format="verbose_json", **times).json()
    formats = ["verbose_json", "srt", "vtt", "text", "srt"]
    fields = {"response_format": "verbose_json", "stream": "true", "formats[]": formats}
    events = _events(live.transcribe(data, **fields, **times))
    assert [event["type"] for event in events] == [
        "transcript.text.delta",
        "auris.transcript.segment",
        "auris.transcript.formats",
        "transcript.text.done",
    ]
    segment = events[1]["segment"]
    assert segment.pop("words") == whole["words"]
    assert [segment] == whole["segments"]
    given = events[2]["formats"]
    assert given.pop("verbose_json") == whole
    words = {"timestamp_granularities[]": "word"}
    assert given == {
        "srt": live.transcribe(data, response_format="srt", **words).text,
        "vtt": live.transcribe(data, response_format="vtt", **words).text,
        "text": live.transcribe(data, response_format="text").text,
    }
    # Without word times, the times of cues are estimates.
    assert given["srt"] != live.transcribe(data, response_format="srt").text


def test_models_list_their_supported_parameters(live: Live, example: bytes) -> None:
    with live.client() as client:
        models = client.get("/v1/models").json()["data"]
        assert [client.get(f"/v1/models/{model['id']}").json() for model in models] == models
    for model in models:
        can = model["capabilities"]
        for code, name in LANGUAGES.items():
            if code in ("en", "de"):
                answer = live.transcribe(example, model=model["id"], language=name)
                assert (answer.status_code == 200) == (code in can["languages"])
        answer = live.transcribe(example, model=model["id"], prompt="kitchen")
        assert can["prompt"]
        assert answer.status_code == 200
        assert can["words"]


def test_a_model_without_word_timestamps_reports_it(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "plain", seed=1)
    settings = Settings(models=(str(directory),), device="cpu", state_dir=str(tmp_path / "state"))
    with running(settings) as server, server.client() as client:
        model = client.get("/v1/models").json()["data"][0]
        answer = server.transcribe(EXAMPLE.read_bytes(), model=model["id"], prompt="kitchen")
    assert model["capabilities"]["words"] is False
    assert model["capabilities"]["prompt"]
    assert answer.status_code == 200


@pytest.mark.parametrize(("model", "name"), [("tiny", "hounds_1"), ("tiny-ctc", "gate_1")])
def test_words_of_a_prompt_are_keywords_of_a_model_that_reads_no_context(
    live: Live, model: str, name: str
) -> None:
    file = (EXAMPLE.parent / "voice" / f"{name}.ogg").read_bytes()
    answers = [
        live.transcribe(file, model=model, **fields).json()
        for fields in ({}, {"prompt": "garden, hounds"}, {"keywords[]": ["garden", "hounds"]})
    ]
    texts = [answer["text"] for answer in answers]
    assert texts[0] != texts[1] == texts[2]
    details = [answer["usage"].get("input_token_details", {}) for answer in answers]
    assert details[1].get("text_tokens", 0) == 0, "the prompt of the model has no context"
    assert [answer.get("warnings") for answer in answers] == [None, [CONTEXT_AS_HOTWORDS], None]


def test_answers_in_json_and_events_have_the_warnings(live: Live, example: bytes) -> None:
    fields: Fields = {"keywords[]": ["kitchen", "?!"], "model": "tiny"}
    for response_format in ("json", "verbose_json"):
        answer = live.transcribe(example, **fields, response_format=response_format).json()
        assert answer["warnings"] == [HOTWORDS_WITHOUT_LETTERS]
    events = live.transcribe(example, **fields, stream="true").text
    (done,) = [line for line in events.splitlines() if "transcript.text.done" in line]
    assert json.loads(done.removeprefix("data: "))["warnings"] == [HOTWORDS_WITHOUT_LETTERS]
    assert live.transcribe(example, **fields, response_format="text").text == answer["text"] + "\n"


@pytest.mark.parametrize("model", ["tiny", "tiny-ctc"])
def test_keywords_and_beams_are_those_of_the_pipeline(
    live: Live, example: bytes, model: str
) -> None:
    """Models without contexts have keywords, too."""
    served = live.server.models.pick(model).pipelines[Priority.FILE]
    words = ["kitchens", "fanfare", "New York"]
    options = {"hotwords": words, "beam_size": 3}
    context = ", ".join(words) if served.reads_contexts else ""
    ours = served.transcribe(example, context=context, **options)
    fields: Fields = {"keywords[]": words, "beam_size": "3", "model": model}
    assert live.transcribe(example, **fields).json()["text"] == ours.text


def test_segments_have_a_finish_reason(tmp_path: Path, example: bytes) -> None:
    """An untrained model never ends a text. Discarded text is not sent."""
    directory = write_tiny(tmp_path / "plain", seed=1)
    ours = AsrPipeline.from_pretrained(directory, device="cpu").transcribe(EXAMPLE)
    assert ours.finish_reason in ("length", "loop")
    settings = Settings(models=(str(directory),), device="cpu", state_dir=str(tmp_path / "state"))
    with running(settings) as server:
        fields = {"model": "plain", "response_format": "verbose_json"}
        segments = server.transcribe(example, **fields).json()["segments"]
        events = _events(server.transcribe(example, model="plain", stream="true"))
    assert "".join(event.get("delta", "") for event in events) == ours.text
    assert [(s["finish_reason"], s["truncated"]) for s in segments] == [
        (s.finish_reason, s.truncated) for s in ours.segments
    ]


def test_errors_about_values_have_a_remedy(live: Live, example: bytes) -> None:
    number, bound = "a valid number", "less than or equal to 1"
    for value, rule in (("abc", number), ("1.5", bound), ("x" * 1000, number)):
        error = _error(live.transcribe(example, temperature=value), 400, "temperature")
        assert error["message"] == (
            f"Invalid 'temperature': it has to be {rule}, but is '{value[:40]}': "
            "correct it, or leave it out."
        )
    with live.client() as client:
        answer = client.post(
            "/v1/audio/transcriptions",
            files=[("file", ("a.flac", example)), ("file", ("b.flac", example))],
            data={"model": "tiny"},
        )
    error = _error(answer, 400, "file")
    assert "one file, but there are several: send one request for each" in error["message"]


def test_streaming_responses_are_events(live: Live) -> None:
    events = _events(live.transcribe(speech(2), stream="true"))
    kinds = [event["type"] for event in events]
    assert kinds == ["transcript.text.delta", "transcript.text.done"]
    assert events[-1]["text"] == "".join(event["delta"] for event in events[:-1])


def test_unknown_paths_return_api_errors(live: Live) -> None:
    with live.client() as client:
        _error(client.get("/v1/nothing"), 404, None)
        _error(client.get("/v1/audio/transcriptions"), 405, None)
        _error(client.get("/v1/models/none"), 404, "model")
        for value in ("abc", "0", "1001", "x" * 1000):
            error = _error(client.get("/v1/jobs", params={"limit": value}), 400, "limit")
            assert error["message"].startswith("Invalid 'limit': it has to be ")
            assert f", but is '{value[:40]}': correct it" in error["message"]
        assert client.get("/v1/models/tiny-ctc").json()["id"] == "tiny-ctc"


def test_counters_are_written_in_full() -> None:
    """With six digits, a counter above a million would stand still for a while and then jump."""
    metrics = Metrics()
    load = Load(2, 1, 1_234_567.875, 7_654_321.25, 0.5)
    metrics.observe({"tiny": load}, 1_000_000.0625, 3)
    metrics.count("realtime_items", 12_345_678)
    text = metrics.text({"queued": 1_234_567}).decode()
    shown = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(shown['auris_engine_audio_seconds_total{model="tiny"}']) == 1_234_567.875
    assert float(shown['auris_engine_busy_seconds_total{model="tiny"}']) == 7_654_321.25
    assert float(shown["auris_audio_seconds_in_flight"]) == 1_000_000.0625
    assert float(shown["auris_realtime_items_total"]) == 12_345_678
    assert float(shown['auris_jobs{status="queued"}']) == 1_234_567
    assert shown['auris_chunks_waiting{model="tiny"}'] == "2.0"


def test_usage_does_not_count_skipped_silence(live: Live) -> None:
    """Two sentences with half a minute of silence cost about as much as with one second of it."""
    used = [
        live.transcribe(speech(2, pause=pause), chunking_strategy="auto").json()["usage"]
        for pause in (1.0, 30.0)
    ]
    audio = [one["input_token_details"]["audio_tokens"] for one in used]
    assert audio[1] < audio[0] + 60
