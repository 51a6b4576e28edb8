"""The official `openai` package against a running server."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
)
from pydantic import BaseModel

from auris import AsrPipeline
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live, speech


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def _strict(answer: BaseModel, but: frozenset[str] = frozenset()) -> None:
    """Every field has its declared type, required fields are present, and no field is unknown."""
    type(answer).model_validate(answer.model_dump(exclude_unset=True), strict=False)
    assert set(answer.model_extra or {}) <= but
    required = {n for n, f in type(answer).model_fields.items() if f.is_required()}
    assert required <= answer.model_fields_set
    for name in answer.model_fields_set:
        value = getattr(answer, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, BaseModel):
                _strict(part, but)


def test_json(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="tiny", file=EXAMPLE, include=["logprobs"], language="en", temperature=0
    )
    assert isinstance(answer, Transcription)
    _strict(answer)
    assert answer.text == EXAMPLE_TEXT
    assert [language.code for language in answer.languages or []] == ["en"]
    assert answer.usage is not None
    assert answer.usage.type == "tokens"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.logprobs is not None
    text = b"".join(bytes(map(int, entry.bytes or [])) for entry in answer.logprobs)
    assert text.decode().strip() == EXAMPLE_TEXT
    assert all((entry.logprob or 0.0) <= 0.0 for entry in answer.logprobs)


def test_text_and_subtitles(client: openai.OpenAI) -> None:
    text = client.audio.transcriptions.create(model="tiny", file=EXAMPLE, response_format="text")
    assert text == f"{EXAMPLE_TEXT}\n"
    srt = client.audio.transcriptions.create(model="tiny", file=EXAMPLE, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> ")
    vtt = client.audio.transcriptions.create(model="tiny", file=EXAMPLE, response_format="vtt")
    assert vtt.startswith("WEBVTT\n")


def test_verbose_json(client: openai.OpenAI, offline: AsrPipeline) -> None:
    answer = client.audio.transcriptions.create(
        model="tiny",
        file=EXAMPLE,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert isinstance(answer, TranscriptionVerbose)
    _strict(answer, frozenset({"task", "finish_reason", "truncated"}))
    ours = offline.transcribe(EXAMPLE, word_timestamps=True)
    assert answer.language == "english"
    assert answer.duration == pytest.approx(ours.seconds, abs=1e-3)
    assert answer.segments is not None
    assert [tuple(s.tokens) for s in answer.segments] == [s.tokens for s in ours.segments]
    assert answer.words is not None
    assert [(w.word, w.start, w.end) for w in answer.words] == [
        (w.text, pytest.approx(w.start), pytest.approx(w.end)) for w in ours.words or ()
    ]
    assert answer.usage is not None
    assert answer.usage.seconds == 2


def test_verbose_json_with_words_only(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="tiny-ctc",
        file=EXAMPLE,
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert answer.segments is None
    assert answer.words


def test_diarized_json_of_two_channels(client: openai.OpenAI) -> None:
    sent = ("call.wav", speech(1, channels=2))
    answer = client.audio.transcriptions.create(
        model="tiny", file=sent, response_format="diarized_json"
    )
    assert isinstance(answer, TranscriptionDiarized)
    _strict(answer)
    assert [segment.speaker for segment in answer.segments] == ["A", "B"]
    assert {segment.text for segment in answer.segments} == {EXAMPLE_TEXT}
    named = client.audio.transcriptions.create(
        model="tiny",
        file=sent,
        response_format="diarized_json",
        known_speaker_names=["agent", "customer"],
    )
    assert [segment.speaker for segment in named.segments] == ["agent", "customer"]
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(
            model="tiny",
            file=sent,
            response_format="diarized_json",
            known_speaker_names=["agent"],
        )
    assert refused.value.param == "known_speaker_names[]"


def test_streaming(client: openai.OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="tiny", file=EXAMPLE, stream=True, include=["logprobs"]
        )
    )
    assert [type(event) for event in events] == [
        TranscriptionTextDeltaEvent,
        TranscriptionTextDoneEvent,
    ]
    for event in events:
        _strict(event)
    assert events[-1].text == EXAMPLE_TEXT


def test_streaming_with_speakers(client: openai.OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="tiny",
            file=("call.wav", speech(1, channels=2)),
            stream=True,
            response_format="diarized_json",
        )
    )
    kinds = [event.type for event in events]
    assert kinds == [
        "transcript.text.delta",
        "transcript.text.segment",
        "transcript.text.delta",
        "transcript.text.segment",
        "transcript.text.done",
    ]
    spoken = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert [segment.speaker for segment in spoken] == ["A", "B"]
    for event in events:
        _strict(event)


def test_many_async_clients(live: Live, offline: AsrPipeline) -> None:
    """Each gets the text of its own recording."""
    recordings = [speech(1 + number % 3, pause=0.2 + number / 10) for number in range(9)]
    expected = [offline.transcribe(data).text for data in recordings]

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{live.url}/v1", api_key="none", max_retries=0
        ) as client:
            calls = (
                client.audio.transcriptions.create(model="tiny", file=("a.wav", data))
                for data in recordings
            )
            return [answer.text for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == expected


def test_async_streaming(live: Live) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
            stream = await client.audio.transcriptions.create(
                model="tiny", file=EXAMPLE, stream=True
            )
            return [event.type async for event in stream]

    assert asyncio.run(ask()) == ["transcript.text.delta", "transcript.text.done"]


def test_models(client: openai.OpenAI) -> None:
    found = client.models.list().data
    assert [model.id for model in found] == ["tiny", "tiny-ctc", "whisper-1"]
    for model in found:
        _strict(model, frozenset({"capabilities"}))
    assert client.models.retrieve("tiny").owned_by == "auris"


def test_errors_are_exceptions_of_the_openai_package(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.transcriptions.create(model="gpt", file=EXAMPLE)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as broken:
        client.audio.transcriptions.create(model="tiny", file=("a.wav", b"no audio"))
    assert broken.value.param == "file"
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.translations.create(model="tiny", file=EXAMPLE)
    assert refused.value.param == "model"
    with pytest.raises(openai.BadRequestError) as vad:
        client.audio.transcriptions.create(
            model="tiny", file=EXAMPLE, chunking_strategy={"type": "server_vad", "threshold": 0.5}
        )
    assert vad.value.param == "chunking_strategy"
