"""Realtime sessions: keys, origins, numbers of sessions, idle time and sizes of messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from auris.server.settings import Settings
from tests.server.live import Live, running, until
from tests.server.talk import PATH, Talk, spoken, talk

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a key and low limits."""
    settings = Settings(
        models=("tiny-ctc",),
        device="cpu",
        keys=(KEY,),
        origins=("https://page.example",),
        state_dir=str(tmp_path_factory.mktemp("state")),
        most_realtime_sessions=2,
        most_prompt_letters=50,
    )
    with running(settings) as server:
        yield server


def test_limits_of_the_model_are_reported(small: Live) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with talk(small.url, additional_headers=headers) as session:
        for given, param in (
            ({"prompt": "x" * 51}, "prompt"),
            ({"beam_size": 17}, "beam_size"),
            ({"language": "de"}, "language"),
        ):
            error = session.update(transcription=given)["error"]
            assert error["param"] == f"session.audio.input.transcription.{param}"
        error = session.ask(
            "transcription_session.update",
            session={"input_audio_transcription": {"prompt": "a" * 51}},
        )["error"]
        assert error["param"] == "session.input_audio_transcription.prompt"


def test_keys(small: Live) -> None:
    address = small.url.replace("http", "ws") + PATH
    for headers in ({}, {"Authorization": "Bearer wrong-and-long-enough"}):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"
    with pytest.raises(InvalidStatus):
        connect(address, subprotocols=["realtime", "openai-insecure-api-key.wrong"])
    names = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]
    with connect(address, subprotocols=names) as socket:
        assert socket.subprotocol == "realtime"
        assert Talk(socket).next()["type"] == "transcription_session.created"


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("https://page.example", 101), ("own", 101)],
)
def test_origins(small: Live, origin: str, status: int) -> None:
    address = small.url.replace("http", "ws") + PATH
    headers = {"Authorization": f"Bearer {KEY}"}
    given = small.url if origin == "own" else origin
    if status == 101:
        connect(address, additional_headers=headers, origin=given).close()
        return
    with pytest.raises(InvalidStatus) as refused:
        connect(address, additional_headers=headers, origin=given)
    assert refused.value.response.status_code == status


def test_sessions_over_the_limit_are_refused(small: Live) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    until(lambda: small.server.realtime_sessions == 0)
    with (
        talk(small.url, additional_headers=headers),
        talk(small.url, additional_headers=headers),
        pytest.raises(InvalidStatus) as refused,
    ):
        connect(small.url.replace("http", "ws") + PATH, additional_headers=headers)
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["Retry-After"]) > 0
    until(lambda: small.server.realtime_sessions == 0)


def test_an_idle_session_is_closed(small: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    short = replace(small.server.settings, most_idle_seconds=1.5)
    monkeypatch.setattr(small.server, "settings", short)
    with talk(small.url, additional_headers=headers) as session:
        assert session.next()["error"]["code"] == "session_idle"
        with pytest.raises(ConnectionClosed) as closed:
            session.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_unsupported_intents_and_models_are_refused(live: Live) -> None:
    for query, status in (
        ("intent=conversation", 400),
        ("intent=transcription&model=gpt", 404),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{live.url.replace('http', 'ws')}/v1/realtime?{query}")
        assert refused.value.response.status_code == status
    with talk(live.url, "/v1/realtime?model=tiny-ctc") as session:
        assert session.item(spoken())[-1]["usage"]["type"] == "duration"


def test_a_message_that_is_too_large_closes_the_session(live: Live) -> None:
    with connect(live.url.replace("http", "ws") + PATH) as socket:
        assert Talk(socket).next()["type"] == "session.created"
        with pytest.raises(ConnectionClosed) as closed:
            _flood(socket)
    # Where the rest of the message is still on its way, the end of the connection may overtake
    # the reason for it.
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


def _flood(socket: ClientConnection) -> None:
    """A message that is too long; the client may see the close before or after it is sent."""
    socket.send("x" * ((16 << 20) + 1))
    socket.recv(timeout=60)
