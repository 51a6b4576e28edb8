"""Realtime sessions: order of events, texts, turns and settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from socket import SHUT_RDWR
from typing import Any

import av
import numpy as np
import pytest
from websockets.sync.client import connect

from auris import AsrPipeline
from auris.diagnostics.parity import TIE_MARGIN, first_difference
from auris.server.realtime.formats import FORMATS
from auris.types import Transcript
from tests.server.live import EXAMPLE_TEXT, Live, speech, until
from tests.server.talk import DELTA, DONE, PATH, Event, Talk, audio, spoken, talk

LOGPROBS = "item.input_audio_transcription.logprobs"
PROVISIONAL, FINAL, WORDS = "auris.provisional", "auris.final", "auris.words"
CUT = {"vad": False, "end_at_pauses": True}


def _kinds(events: list[Event]) -> list[str]:
    return [event["type"].rpartition("conversation.item.")[2] for event in events]


def _deltas(events: list[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == DELTA)


def _same(done: Event, file: Transcript) -> None:
    """The text equals that of the file under the tie rule."""
    if done["transcript"] == file.text:
        return
    theirs = [logprob for segment in file.segments for logprob in segment.logprobs]
    ours = [entry["logprob"] for entry in done["logprobs"]]
    place = first_difference([round(x, 3) for x in ours], [round(x, 3) for x in theirs])
    assert place is not None
    assert abs(ours[place] - theirs[place]) < TIE_MARGIN, (done["transcript"], file.text)
    print(f"tie: {done['transcript']!r}, {file.text!r}")


@pytest.mark.parametrize("block", [240, 2400, 1_000_000])
def test_an_item_has_the_text_of_the_file(live: Live, offline: AsrPipeline, block: int) -> None:
    samples = spoken(3, pause=0.4)
    with talk(live.url) as session:
        assert session.update(include=(LOGPROBS,))["session"]["include"] == [LOGPROBS]
        events = session.item(samples, block)
    file = offline.transcribe((samples, 24_000), **CUT, chunk_seconds=offline.live_chunk_seconds)
    _same(events[-1], file)
    written = [segment for segment in file.segments if segment.text]
    assert len([kind for kind in _kinds(events) if kind.endswith(".delta")]) == len(written)
    assert _deltas(events) == events[-1]["transcript"]
    assert len(events[-1]["logprobs"]) > 10
    assert events[-1]["languages"] == [{"code": "en"}]


def test_a_longer_delay_gives_longer_chunks(live: Live, offline: AsrPipeline) -> None:
    samples = spoken(3, pause=0.4)
    with talk(live.url) as session:
        session.update(include=(LOGPROBS,), transcription={"delay": "xhigh"})
        events = session.item(samples)
    _same(events[-1], offline.transcribe((samples, 24_000), **CUT, chunk_seconds=30))
    assert sum(event["type"] == DELTA for event in events) == 1


def test_a_session_without_delay_has_the_default(live: Live) -> None:
    with talk(live.url) as session:
        for delay, used in (("high", "high"), (None, "low")):
            updated = session.update(transcription={"delay": delay})["session"]
            assert updated["audio"]["input"]["transcription"]["delay"] == used


def test_an_unsupported_language_is_refused_at_once(live: Live) -> None:
    with talk(live.url) as session:
        error = session.update(transcription={"language": "de"})["error"]
        assert error["param"] == "session.audio.input.transcription.language"
        assert "This model knows English, but the language is German" in error["message"]
        session.update(transcription={"model": "tiny-ctc"})
        assert "error" in session.update(transcription={"language": "German"})
        assert session.update(transcription={"language": "en"})["type"] == "session.updated"


@pytest.mark.parametrize(("name", "codec"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
def test_telephone_formats_are_accepted(live: Live, name: str, codec: str) -> None:
    context = av.CodecContext.create(f"pcm_{codec}", "w")
    context.sample_rate, context.layout, context.format = 8000, "mono", "s16"
    samples = spoken(rate=8000)
    frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
    frame.sample_rate = 8000
    data = b"".join(bytes(packet) for packet in context.encode(frame))
    with talk(live.url) as session:
        session.update(format={"type": name})
        events = session.item(np.frombuffer(data, np.uint8))
    assert events[-1]["transcript"] == EXAMPLE_TEXT


@pytest.mark.parametrize(("place", "codec"), [(1, "pcm_mulaw"), (2, "pcm_alaw")])
def test_companded_samples_equal_those_of_another_decoder(place: int, codec: str) -> None:
    every = bytes(range(256))
    context = av.CodecContext.create(codec, "r")
    context.sample_rate, context.layout = 8000, "mono"
    (frame,) = context.decode(av.Packet(every))
    assert np.array_equal(FORMATS[place].read(every), frame.to_ndarray()[0])


def test_partial_and_final_text_and_words_are_sent_on_request(live: Live) -> None:
    samples = spoken(3, pause=0.4)
    with talk(live.url) as session:
        session.update(include=(PROVISIONAL, FINAL, WORDS))
        before = session.item(samples[:24_000])
        events = session.item(samples, 12_000)
    settled, final, starts = "", "", []
    for event in events:
        if event["type"] == PROVISIONAL:
            assert set(event) == {
                *("type", "event_id", "item_id", "content_index", "text"),
                *("start_ms", "end_ms", "words"),
            }
            assert event["text"] == "" or event["text"].startswith(" ") == bool(settled)
            assert 1000 <= event["start_ms"] <= event["end_ms"] <= 1000 + len(samples) / 24
        elif event["type"] == DELTA:
            settled += event["delta"]
        elif event["type"] == FINAL:
            assert event["text"] == "" or event["text"].startswith(" ") == bool(final)
            assert 0 <= event["revised"] <= len(event["text"].split())
            assert 1000 <= event["start_ms"] < event["end_ms"] <= 1000 + len(samples) / 24
            final += event["text"]
            if settled != final:
                assert any(e["type"] == FINAL and e["revised"] for e in events)
        elif event["type"] == WORDS:
            starts += [word["start_ms"] for word in event["words"]]
    assert final == events[-1]["transcript"]
    assert len(starts) == len(final.split())
    assert starts == sorted(starts)
    # Times are relative to the start of the session, not of the item.
    assert starts[0] >= 1000
    assert before[-1]["type"] == DONE


def test_words_settle_while_audio_arrives(live: Live) -> None:
    """Half a second is sent when the step before is done, so that no step is left out."""
    samples = spoken(3, pause=0.0)[:86_400]
    kinds = {}
    with talk(live.url) as session:
        for delay in ("minimal", "high"):
            session.update(include=(PROVISIONAL, FINAL), transcription={"delay": delay})
            events = []
            session.append(samples[:2400])  # What the resampler holds back.
            for first in range(2400, len(samples), 12_000):
                session.append(samples[first : first + 12_000])
                events += session.until(PROVISIONAL)
            session.send("input_audio_buffer.commit")
            events += session.until(DONE)
            kinds[delay] = [one["type"] for one in events if one["type"] in (DELTA, FINAL)]
    assert kinds["minimal"][:2] == [DELTA, DELTA]
    assert kinds["high"][:2] == [DELTA, FINAL]


def test_events_with_server_turn_detection_are_in_order(live: Live) -> None:
    with talk(live.url, manual=False) as session:
        session.append(spoken(1, pause=1.2), 4800)
        events = session.until(DONE)
    kinds = [kind for kind in _kinds(events) if not kind.endswith("delta")]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "added",
        "done",
        "input_audio_transcription.completed",
    ]
    assert events[-1]["transcript"] == EXAMPLE_TEXT


def test_silence_is_not_a_turn_and_cannot_be_committed(live: Live) -> None:
    quiet = np.random.default_rng(0).normal(0, 30, 48_000).astype(np.int16)
    with talk(live.url, manual=False) as session:
        session.append(quiet)
        error = session.ask("input_audio_buffer.commit", event_id="mine")["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        assert error["event_id"] == "mine"
        session.append(spoken(1, pause=1.2))
        started = session.next()
        assert 1700 <= started["audio_start_ms"] <= 2500
        session.until(DONE)


def test_a_commit_ends_a_turn_at_once(live: Live) -> None:
    with talk(live.url, manual=False) as session:
        session.append(spoken())
        session.until("input_audio_buffer.speech_started")
        session.send("input_audio_buffer.commit")
        events = session.until(DONE)
        assert "input_audio_buffer.speech_stopped" not in _kinds(events)
        assert events[-1]["transcript"] == EXAMPLE_TEXT


def test_cleared_audio_is_discarded(live: Live) -> None:
    with talk(live.url) as session:
        session.update(include=(PROVISIONAL,))
        session.append(spoken(4))
        session.send("input_audio_buffer.clear")
        cleared = session.until("input_audio_buffer.cleared")
        assert DONE not in _kinds(cleared)
        error = session.ask("input_audio_buffer.commit")["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        events = session.item(spoken())
        assert events[-1]["transcript"] == EXAMPLE_TEXT
        assert {e["item_id"] for e in events if "item_id" in e} == {events[-1]["item_id"]}
    with talk(live.url, manual=False) as session:
        session.append(spoken())
        session.until("input_audio_buffer.speech_started")
        session.send("input_audio_buffer.clear")
        session.until("input_audio_buffer.cleared")
        assert "error" in session.ask("input_audio_buffer.commit")["type"]


def test_audio_too_short_to_commit_stays_in_the_buffer(live: Live) -> None:
    samples = spoken()
    with talk(live.url) as session:
        session.append(samples[:2000])
        error = session.ask("input_audio_buffer.commit")["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        assert "83 ms" in error["message"]
        assert session.item(samples[2000:])[-1]["transcript"] == EXAMPLE_TEXT


def test_sessions_are_independent(live: Live, offline: AsrPipeline) -> None:
    """Several sessions with different texts, one block of each in turn."""
    voices = [spoken(1 + n, pause=0.3)[n * 9000 :] for n in range(4)]
    expected = [
        offline.transcribe((voice, 24_000), **CUT, chunk_seconds=offline.live_chunk_seconds)
        for voice in voices
    ]
    assert len({file.text for file in expected}) > 2
    opened = [talk(live.url) for _ in voices]
    sessions = [one.__enter__() for one in opened]
    for session in sessions:
        session.update(include=(LOGPROBS,))
    for first in range(0, max(map(len, voices)), 4800):
        for session, voice in zip(sessions, voices, strict=True):
            block = voice[first : first + 4800]
            session.send("input_audio_buffer.append", audio=audio(block))
    for session in sessions:
        session.send("input_audio_buffer.commit")
    for session, file in zip(sessions, expected, strict=True):
        _same(session.until(DONE)[-1], file)
    for one in opened:
        one.__exit__(None, None, None)


def test_a_client_disconnect_in_the_middle_of_a_word_frees_its_session(live: Live) -> None:
    pool = live.server.models.pick("tiny").pool
    for _ in range(3):
        socket = connect(live.url.replace("http", "ws") + PATH)
        session = Talk(socket)
        session.update(turn_detection=None)
        session.append(spoken(4)[:70_000])
        socket.socket.shutdown(SHUT_RDWR)  # Without the closing handshake.
    until(lambda: live.server.realtime_sessions == 0)
    until(lambda: not pool._sessions)
    with talk(live.url) as session:
        assert session.item(spoken())[-1]["transcript"] == EXAMPLE_TEXT


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"format": {"type": "audio/opus"}}, "audio.input.format.type"),
    ({"format": {"type": "audio/pcm", "rate": 16000}}, "audio.input.format.rate"),
    ({"format": "pcm16"}, "audio.input.format"),
    ({"transcription": None}, "audio.input.transcription"),
    ({"transcription": {"model": "gpt"}}, "audio.input.transcription.model"),
    ({"transcription": {"language": "klingon"}}, "audio.input.transcription.language"),
    ({"transcription": {"languages": ["en", "de"]}}, "audio.input.transcription.languages"),
    (
        {"transcription": {"languages": ["en"], "language": "de"}},
        "audio.input.transcription.languages",
    ),
    ({"transcription": {"delay": "never"}}, "audio.input.transcription.delay"),
    ({"transcription": {"prompt": 7}}, "audio.input.transcription.prompt"),
    ({"transcription": {"prompt": "x" * 5000}}, "audio.input.transcription.prompt"),
    ({"transcription": {"keywords": ["a\ud800"]}}, "audio.input.transcription"),
    ({"transcription": {"speed": 2}}, "audio.input.transcription.speed"),
    ({"turn_detection": {"type": "semantic_vad"}}, "audio.input.turn_detection.type"),
    ({"turn_detection": {"threshold": 1.5}}, "audio.input.turn_detection.threshold"),
    ({"turn_detection": {"threshold": 10**400}}, "audio.input.turn_detection.threshold"),
    (
        {"turn_detection": {"silence_duration_ms": 0.5}},
        "audio.input.turn_detection.silence_duration_ms",
    ),
    (
        {"turn_detection": {"create_response": True}},
        "audio.input.turn_detection.create_response",
    ),
    (
        {"turn_detection": {"idle_timeout_ms": 5000}},
        "audio.input.turn_detection.idle_timeout_ms",
    ),
    ({"noise_reduction": {"type": "near_field"}}, "audio.input.noise_reduction"),
    ({"loudness": 3}, "audio.input.loudness"),
]


def test_unsupported_settings_are_refused_with_their_name(live: Live) -> None:
    with talk(live.url) as session:
        for settings, param in REFUSED:
            error = session.update(**settings)["error"]
            assert error["param"] == f"session.{param}", settings
            assert error["type"] == "invalid_request_error"
        for body, param in (
            ({}, "session.type"),
            ({"type": "transcription", "include": ["nothing"]}, "session.include"),
            ({"type": "transcription", "tools": []}, "session.tools"),
            (7, "session"),
        ):
            assert session.ask("session.update", session=body)["error"]["param"] == param
        # None of them has changed the settings.
        assert session.update()["session"]["audio"]["input"]["transcription"] == {
            "model": "tiny",
            "language": None,
            "prompt": "",
            "keywords": [],
            "beam_size": None,
            "delay": "low",
        }


def test_a_session_update_applies_completely_or_not_at_all(live: Live) -> None:
    with talk(live.url, manual=False) as session:
        settings = session.update(
            turn_detection={"type": "server_vad", "threshold": 0.7},
            transcription={"language": "en", "delay": "high"},
        )["session"]["audio"]["input"]
        assert settings["turn_detection"] == {
            "type": "server_vad",
            "threshold": 0.7,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        }
        again = session.update(format={"type": "audio/pcma"})["session"]["audio"]["input"]
        assert again["transcription"] == settings["transcription"]
        assert again["turn_detection"] == settings["turn_detection"]
        assert again["format"] == {"type": "audio/pcma"}
        older = session.ask("transcription_session.update", session={"turn_detection": None})
        assert older["type"] == "transcription_session.updated"
        assert older["session"]["input_audio_format"] == "g711_alaw"
        assert older["session"]["input_audio_transcription"] == settings["transcription"]
        session.update(format={"type": "audio/pcm"})
        session.append(spoken()[:12_000])
        assert session.update(format={"type": "audio/pcmu"})["error"]["param"] == "session"
        assert session.update(transcription={"language": None})["type"] == "session.updated"


def test_the_beta_protocol_has_its_order_of_events(live: Live) -> None:
    headers = {"OpenAI-Beta": "realtime=v1"}
    with talk(live.url, manual=False, additional_headers=headers) as session:
        updated = session.ask(
            "transcription_session.update",
            session={
                "turn_detection": None,
                "include": [LOGPROBS],
                "input_audio_transcription": {"model": "tiny", "prompt": ""},
            },
        )
        assert updated["session"]["turn_detection"] is None
        events = session.item(spoken())
    assert [kind for kind in _kinds(events) if not kind.endswith("delta")] == [
        "input_audio_buffer.committed",
        "created",
        "input_audio_transcription.completed",
    ]
    assert "languages" not in events[-1]


def test_metrics_and_log_contain_no_user_content(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        with talk(live.url, PATH + "&model=tiny-ctc") as session:
            session.update(transcription={"language": "en"})
            session.item(spoken())
            with live.client() as client:
                metrics = client.get("/metrics").text
        # The line is logged at the end of the session, after the client has disconnected.
        until(lambda: "WEBSOCKET /v1/realtime 101 1000" in caplog.text)
    assert "auris_realtime_sessions_open 1.0" in metrics
    for name in ("sessions", "audio_seconds", "items"):
        assert f"auris_realtime_{name}_total" in metrics
    assert 'auris_engine_live_seconds_total{model="tiny-ctc"}' in metrics
    assert "kitchen" not in caplog.text


def test_files_and_streams_share_the_engine(live: Live) -> None:
    """A stream continues during the transcription of a long file."""
    with ThreadPoolExecutor(1) as others, talk(live.url) as session:
        file = others.submit(live.transcribe, speech(20))
        until(lambda: live.server.models.pick("tiny").engine.load().active)
        assert session.item(spoken())[-1]["transcript"] == EXAMPLE_TEXT
        assert file.result().json()["text"].count(EXAMPLE_TEXT) >= 15
