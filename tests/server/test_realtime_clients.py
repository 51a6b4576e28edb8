"""The realtime clients of the official `openai` package against a running server."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai.types.realtime import (
    ConversationItemAdded,
    ConversationItemDone,
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    InputAudioBufferSpeechStoppedEvent,
    RealtimeErrorEvent,
    SessionCreatedEvent,
    SessionUpdatedEvent,
)
from openai.types.realtime import (
    ConversationItemInputAudioTranscriptionCompletedEvent as Completed,
)
from openai.types.realtime import (
    ConversationItemInputAudioTranscriptionDeltaEvent as Delta,
)
from pydantic import BaseModel

from tests.server.live import EXAMPLE_TEXT, Live
from tests.server.talk import audio, spoken

INTENT = {"intent": "transcription"}
MANUAL = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def _strict(event: object, kind: type[BaseModel]) -> None:
    """An event of a type, with all required and no unknown fields."""
    assert isinstance(event, kind)
    kind.model_validate(event.model_dump(exclude_unset=True, warnings=False))
    assert not event.model_extra
    required = {n for n, f in kind.model_fields.items() if f.is_required()}
    assert required <= event.model_fields_set


def test_client_commits_audio(client: openai.OpenAI) -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.session.update(session=MANUAL)
        samples = spoken()
        for first in range(0, len(samples), 2400):
            connection.input_audio_buffer.append(audio=audio(samples[first : first + 2400]))
        connection.input_audio_buffer.commit()
        events = []
        for event in connection:
            events.append(event)
            if isinstance(event, Completed):
                break
    kinds: list[type[BaseModel]] = [
        SessionCreatedEvent,
        SessionUpdatedEvent,
        InputAudioBufferCommittedEvent,
        ConversationItemAdded,
        ConversationItemDone,
        Delta,
        Completed,
    ]
    deltas = [event for event in events if isinstance(event, Delta)]
    for delta in deltas[1:]:
        _strict(delta, Delta)
        events.remove(delta)
    assert len(events) == len(kinds)
    for event, kind in zip(events, kinds, strict=True):
        _strict(event, kind)
    assert events[-1].transcript == EXAMPLE_TEXT
    assert events[-1].usage.type == "tokens"
    assert "".join(delta.delta for delta in deltas) == EXAMPLE_TEXT
    names = {event.item_id for event in events if hasattr(event, "item_id")}
    assert names == {events[3].item.id}


def test_server_turn_detection_with_the_async_client(live: Live) -> None:
    async def speak() -> list[object]:
        async with (
            openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client,
            client.realtime.connect(model="tiny-ctc", extra_query=INTENT) as connection,
        ):
            samples = spoken(2, pause=1.0)
            for first in range(0, len(samples), 4800):
                block = audio(samples[first : first + 4800])
                await connection.input_audio_buffer.append(audio=block)
            events: list[object] = []
            async for event in connection:
                events.append(event)
                if sum(isinstance(e, Completed) for e in events) == 2:
                    return events
            return events

    events = asyncio.run(speak())
    turns = [[], []]
    names: list[str] = []
    for event in events[1:]:
        name = getattr(event, "item_id", None) or event.item.id
        if name not in names:
            names.append(name)
        turns[names.index(name)].append(event)
    kinds = [
        InputAudioBufferSpeechStartedEvent,
        InputAudioBufferSpeechStoppedEvent,
        InputAudioBufferCommittedEvent,
        ConversationItemAdded,
        ConversationItemDone,
        Completed,
    ]
    for turn in turns:
        for event in turn:
            _strict(event, type(event))
        deltas = "".join(event.delta for event in turn if isinstance(event, Delta))
        assert deltas.split() == turn[-1].transcript.split()
        # They come as soon as a chunk is over, also in front of the end of the turn.
        turn[:] = [event for event in turn if not isinstance(event, Delta)]
        assert [type(event) for event in turn] == kinds
        assert turn[0].audio_start_ms < turn[1].audio_end_ms
        assert turn[-1].usage.type == "duration"
        said = turn[1].audio_end_ms - turn[0].audio_start_ms
        assert turn[-1].usage.seconds == pytest.approx(said / 1000, abs=0.002)
    first, second = turns
    assert first[2].previous_item_id is None
    assert second[2].previous_item_id == names[0]
    assert first[1].audio_end_ms <= second[0].audio_start_ms
    assert first[-1].transcript
    assert second[-1].transcript


def test_errors_are_error_events(client: openai.OpenAI) -> None:
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.session.update(
            session={"type": "realtime"},
            event_id="event_of_mine",
        )
        event = connection.recv()
        _strict(event, RealtimeErrorEvent)
        assert event.error.param == "session.type"
        assert event.error.event_id == "event_of_mine"
        connection.response.create()
        assert connection.recv().error.param == "type"


def test_the_beta_client(live: Live) -> None:
    # It uses wss unless an address is given.
    client = openai.OpenAI(
        base_url=f"{live.url}/v1",
        websocket_base_url=live.url.replace("http", "ws") + "/v1",
        api_key="none",
    )
    with client.beta.realtime.connect(model="tiny", extra_query=INTENT) as connection:
        created = connection.recv()
        assert created.type == "transcription_session.created"
        connection.transcription_session.update(
            session={
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "tiny", "language": "en"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
            }
        )
        updated = connection.recv()
        assert updated.type == "transcription_session.updated"
        assert updated.session.input_audio_format == "g711_ulaw"
        assert updated.session.turn_detection is not None
        assert updated.session.turn_detection.silence_duration_ms == 300
        assert updated.session.turn_detection.threshold == 0.5


def test_an_unknown_model_is_refused_before_the_session(client: openai.OpenAI) -> None:
    from websockets.exceptions import InvalidStatus

    with (
        pytest.raises(InvalidStatus) as refused,
        client.realtime.connect(model="gpt-realtime", extra_query=INTENT),
    ):
        pass
    assert refused.value.response.status_code == 404
    assert b"model_not_found" in (refused.value.response.body or b"")
