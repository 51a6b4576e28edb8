"""Malformed messages of every kind are answered with an error, and the session continues."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.server.errors import ApiError
from auris.server.realtime.config import Session, TurnDetection
from auris.server.realtime.formats import FORMATS, decoded
from auris.server.realtime.messages import (
    OlderUpdate,
    SessionUpdate,
    client_event,
    error_event,
    json_object,
)
from auris.server.realtime.turns import SpeechAudio, SpeechStarted, SpeechStopped, TurnCutter
from tests.server.live import EXAMPLE_TEXT, Live
from tests.server.talk import DONE, audio, spoken, talk

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("type", "audio", "input", "format", "rate", "transcription", "model", "language"),
        *("languages", "prompt", "keywords", "delay", "turn_detection", "threshold"),
        *("prefix_padding_ms", "noise_reduction", "include", "input_audio_format"),
        *("input_audio_transcription", "create_response", "idle_timeout_ms", "modalities"),
    ]
)
SESSIONS = st.recursive(
    ANYTHING | st.sampled_from(["transcription", "server_vad", "audio/pcm", "pcm16", "tiny"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.text() | ANYTHING.map(json.dumps) | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_message_is_an_event_or_an_error(text: str) -> None:
    content: dict[str, Any] = {}
    fault = None
    try:
        content = json_object({"text": text})
        client_event(content)
    except ApiError as error:
        fault = error
    assert fault is None or fault.status == 400
    assert fault is None or json.dumps(error_event(fault, content.get("event_id")))


@settings(max_examples=600, deadline=None)
@given(SESSIONS, st.booleans())
def test_any_session_object_is_accepted_or_refused_with_a_reason(session: Any, newer: bool) -> None:
    before = Session.of_model("tiny")
    if newer and isinstance(session, dict):
        session = {**session, "type": "transcription"}
    after, refused = _updated(before, session, newer)
    if refused is not None:
        assert refused.status == 400
        assert (refused.param or "").startswith("session")
        return
    assert after is not None
    for shape in (True, False):
        written = after.to_dict(shape)
        assert json.loads(json.dumps(written)) == written
        # The written form can be read again with the same meaning.
        assert _updated(before, written, shape) == (after, None)


def _updated(before: Session, session: Any, newer: bool) -> tuple[Session | None, ApiError | None]:
    kind = "session.update" if newer else "transcription_session.update"
    try:
        event = client_event({"type": kind, "session": session})
        assert isinstance(event, SessionUpdate | OlderUpdate)
        return before.updated(event.session), None
    except ApiError as error:
        return None, error


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=50), st.sampled_from(FORMATS))
def test_the_duration_of_audio_follows_from_its_bytes(data: bytes, form: Any) -> None:
    text = base64.b64encode(data).decode()
    if len(data) % form.width:
        with pytest.raises(ApiError):
            decoded(text, form)
    else:
        assert len(decoded(text, form)) == len(data) // form.width
    with pytest.raises(ApiError):
        decoded(text + "?", form)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([24_000, 8000]), st.floats(0.0, 1.0))
def test_turns_do_not_depend_on_block_sizes(seed: int, rate: int, threshold: float) -> None:
    """Turns are consecutive; together they are spans of the audio."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.integers(0, 2, 12), rate // 4) * 3000 + 20
    samples = (rng.normal(0, 1, len(loud)) * loud).astype(np.int16)
    found = []
    for whole in (True, False):
        cutter = TurnCutter(
            TurnDetection(threshold=threshold, prefix_padding_ms=200, silence_duration_ms=250),
            rate,
            0,
        )
        turns: list[list[Any]] = []
        place = 0
        while place < len(samples):
            size = len(samples) if whole else int(rng.integers(1, 5000))
            for one in cutter.push(samples[place : place + size]):
                _take(turns, one)
            place += size
        for one in cutter.end():
            _take(turns, one)
        found.append(turns)
    assert [turn[:2] for turn in found[0]] == [turn[:2] for turn in found[1]]
    last = 0
    for start, stop, parts in found[1]:
        assert last <= start < stop
        assert np.array_equal(np.concatenate(parts), samples[start:stop])
        last = stop


def _take(turns: list[list[Any]], one: SpeechStarted | SpeechAudio | SpeechStopped) -> None:
    if isinstance(one, SpeechStarted):
        turns.append([one.sample, 0, []])
    elif isinstance(one, SpeechAudio):
        turns[-1][2].append(one.samples)
    else:
        turns[-1][1] = one.sample


def _broken(rng: random.Random) -> str | bytes:
    good = json.dumps({"type": "input_audio_buffer.append", "audio": audio(spoken()[:999])})
    makers: list[Callable[[], str | bytes]] = [
        lambda: good[: rng.randrange(1, len(good))],
        lambda: rng.randbytes(rng.randrange(200)),
        lambda: json.dumps({"type": rng.choice(["", "x", "response.create", None, 7, []])}),
        lambda: json.dumps({"type": "input_audio_buffer.append", "audio": rng.choice(WRONG)}),
        lambda: json.dumps({"type": "input_audio_buffer.append"}),
        lambda: json.dumps({"type": "input_audio_buffer.commit", "now": True}),
        lambda: json.dumps({"type": "input_audio_buffer.clear", "event_id": "x" * 600}),
        lambda: json.dumps({"type": "session.update", "session": rng.choice(WRONG)}),
        lambda: json.dumps({"type": "transcription_session.update", "session": {"a": "\ud800"}}),
        lambda: "[" * rng.choice([1, 100, 100_000]),
        lambda: '{"type": NaN}',
        lambda: '{"type": ' + "9" * rng.choice([10, 10_000]) + "}",
        lambda: "",
    ]
    return rng.choice(makers)()


WRONG: list[Any] = ["?", "AAA", "é", None, 7, [], {}, {"audio": []}, "AA=A", "A" * 100_001]


def test_a_thousand_malformed_messages_are_answered(live: Live) -> None:
    rng = random.Random(5)
    with talk(live.url) as session:
        for _ in range(10):
            for _ in range(100):
                session.socket.send(_broken(rng))
            for _ in range(100):
                event = session.next()
                assert event["type"] == "error", event
                assert event["error"]["type"] == "invalid_request_error"
                assert event["error"]["message"]
        assert session.item(spoken())[-1]["transcript"] == EXAMPLE_TEXT


def test_malformed_messages_do_not_affect_audio(live: Live) -> None:
    rng = random.Random(6)
    samples = spoken()
    with talk(live.url) as session:
        for first in range(0, len(samples), 4800):
            session.socket.send(_broken(rng))
            session.append(samples[first : first + 4800], 4800)
        session.send("input_audio_buffer.commit")
        assert session.until(DONE)[-1]["transcript"] == EXAMPLE_TEXT
