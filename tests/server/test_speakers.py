"""Speakers by voice: diarized answers, known speakers, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice

import httpx
import numpy as np
import openai
import pytest
import soxr
from openai.types.audio import TranscriptionDiarized, TranscriptionTextSegmentEvent

from auris import Diarizer
from auris.audio.io import load
from auris.diarization import load as networks
from auris.errors import CheckpointError, ModelNotFound
from auris.server.errors import unsupported
from auris.server.realtime.config import SPEAKERS
from auris.server.realtime.messages import CORRECT_SPEAKERS, CORRECTED_SPEAKERS
from auris.server.settings import Settings
from auris.server.speakers import SharedDiarizer, letters
from auris.types import Samples
from tests.audio.media import encode, pcm
from tests.diarization.voices import MarkEncoder, conversation, diarizer
from tests.server.live import EXAMPLE, Live, running, until
from tests.server.talk import talk

SPEECH = load(EXAMPLE).samples
FORM = {"response_format": "diarized_json"}


def wav(samples: Samples, channels: int = 1) -> bytes:
    return encode(pcm(np.stack([samples] * channels)), 16_000, "wav", "pcm_s16le")


def reference(voice: int | None, repeats: int = 2) -> str:
    """A data URL of one voice, 2.4 s for each repeat."""
    data = wav(conversation(SPEECH, *[voice] * repeats))
    return f"data:audio/wav;base64,{base64.b64encode(data).decode()}"


def short() -> str:
    return f"data:audio/wav;base64,{base64.b64encode(wav(SPEECH)).decode()}"


TALK = wav(conversation(SPEECH, 0, 1, 0, 1))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patched:
        voices = diarizer(MarkEncoder())
        patched.setattr(Diarizer, "from_pretrained", lambda model=None: voices)
        settings = Settings(
            models=("tiny", "tiny-ctc"),
            device="cpu",
            most_audio_seconds=120.0,
            state_dir=str(tmp_path_factory.mktemp("state")),
        )
        with running(settings) as server:
            yield server


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def speakers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [segment["speaker"] for segment in answer.json()["segments"]]


def refused(answer: httpx.Response, param: str) -> str:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param, error
    return str(error["message"])


def test_names_of_many_speakers() -> None:
    names = list(islice(letters(), 30))
    assert names[:3] + names[25:28] == ["A", "B", "C", "Z", "AA", "AB"]


def test_voices_are_told_apart(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="tiny",
        file=("talk.wav", TALK),
        response_format="diarized_json",
        chunking_strategy="auto",
    )
    assert isinstance(answer, TranscriptionDiarized)
    assert [segment.speaker for segment in answer.segments] == ["A", "B", "A", "B"]
    assert [segment.id for segment in answer.segments] == [f"seg_00{n}" for n in range(4)]
    spans = [(segment.start, segment.end) for segment in answer.segments]
    assert spans == sorted(spans)
    assert spans[1][0] == pytest.approx(2.4, abs=0.7)
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 10)
    assert answer.text


def test_segments_are_events(client: openai.OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="tiny-ctc",
            file=("talk.wav", TALK),
            response_format="diarized_json",
            stream=True,
        )
    )
    spoken = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert [event.speaker for event in spoken] == ["A", "B", "A", "B"]
    deltas = [event for event in events if event.type == "transcript.text.delta"]
    assert [event.segment_id for event in deltas] == [event.id for event in spoken]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == events[-1].text


def test_known_speakers_are_recognized(client: openai.OpenAI) -> None:
    """The second speaker has a reference, and the third name is that of somebody else."""
    answer = client.audio.transcriptions.create(
        model="tiny",
        file=("talk.wav", TALK),
        response_format="diarized_json",
        known_speaker_names=["agent", "customer"],
        known_speaker_references=[reference(1), reference(3)],
    )
    assert [segment.speaker for segment in answer.segments] == ["A", "agent", "A", "agent"]


def test_every_format_shows_voices_where_it_is_requested(live: Live) -> None:
    text = live.transcribe(TALK, response_format="text", diarize="true").text
    assert [line[:3] for line in text.splitlines()] == ["A: ", "B: ", "A: ", "B: "]
    assert live.transcribe(TALK, response_format="vtt", diarize="true").text.count("<v B>") == 2
    assert "A: " in live.transcribe(TALK, response_format="srt", speakers="2").text
    verbose = live.transcribe(TALK, response_format="verbose_json", diarize="true")
    assert speakers(verbose) == ["A", "B", "A", "B"]
    plain = live.transcribe(TALK, response_format="verbose_json").json()
    assert not any("speaker" in segment for segment in plain["segments"])


def test_the_number_of_speakers_can_be_given(live: Live) -> None:
    assert set(speakers(live.transcribe(TALK, **FORM, speakers="1"))) == {"A"}
    assert set(speakers(live.transcribe(TALK, **FORM, max_speakers="1"))) == {"A"}
    assert set(speakers(live.transcribe(TALK, **FORM, min_speakers="2"))) == {"A", "B"}


def test_channels_or_voices(live: Live) -> None:
    stereo = wav(conversation(SPEECH, 0, 1), channels=2)
    assert sorted(speakers(live.transcribe(stereo, **FORM))) == ["A", "B"]
    assert speakers(live.transcribe(stereo, **FORM, diarize="true")) == ["A", "B"]
    by_channel = live.transcribe(stereo, **FORM, diarize="false").json()["segments"]
    assert len({segment["text"] for segment in by_channel}) == 1, "each channel has all of it"
    named = live.transcribe(stereo, **FORM, **{"known_speaker_names[]": ["left", "right"]})
    assert sorted(speakers(named)) == ["left", "right"]


def test_silence_has_no_segments(live: Live) -> None:
    answer = live.transcribe(wav(np.zeros(48_000, np.float32)), **FORM)
    assert answer.status_code == 200
    assert speakers(answer) == []


NAMES = "known_speaker_names[]"
REFERENCES = "known_speaker_references[]"


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"diarize": "true", "response_format": "json"}, "response_format", "shows no speakers"),
        ({"diarize": "false"}, "diarize", "has one"),
        ({"diarize": "false", "speakers": "2"}, "diarize", "other fields"),
        ({"speakers": "0"}, "speakers", "greater than or equal to 1"),
        ({"speakers": "101"}, "speakers", "100"),
        ({"speakers": "2", "max_speakers": "3"}, "speakers", "excludes"),
        ({"min_speakers": "3", "max_speakers": "2"}, "max_speakers", "at least"),
        ({NAMES: "Ann"}, NAMES, "name channels"),
        ({NAMES: ["Ann"] * 2, REFERENCES: [reference(0)] * 2}, NAMES, "none twice"),
        ({NAMES: list("abcde"), REFERENCES: [reference(0)] * 5}, NAMES, "4 names"),
        ({NAMES: ["Ann", "Bo"], REFERENCES: reference(0)}, REFERENCES, "there are 1, and 2 names"),
        ({REFERENCES: reference(0)}, REFERENCES, "0 names"),
        ({NAMES: "Ann", REFERENCES: reference(None)}, REFERENCES, "'Ann' nobody speaks"),
        ({NAMES: "Ann", REFERENCES: reference(0, 5)}, REFERENCES, "2 to 10 s long"),
        ({NAMES: "Ann", REFERENCES: short()}, REFERENCES, "2 to 10 s long"),
        ({NAMES: "Ann", REFERENCES: reference(0, 40)}, REFERENCES, "number 1 has to be"),
        ({NAMES: "Ann", REFERENCES: "ann.wav"}, REFERENCES, "data URL"),
        ({NAMES: "Ann", REFERENCES: "data:audio/wav;base64,AAAA"}, REFERENCES, "cannot be used"),
        ({NAMES: "Ann", REFERENCES: "data:,"}, REFERENCES, "cannot be used"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_fields_are_refused(
    live: Live, fields: dict[str, object], param: str, reason: str
) -> None:
    assert reason in refused(live.transcribe(TALK, **{**FORM, **fields}), param)


def test_references_have_room_of_their_own(live: Live) -> None:
    """References may take more than the texts of a form, and are limited together."""
    long = wav(np.tile(conversation(SPEECH, 0), 4), channels=8)
    url = f"data:audio/wav;base64,{base64.b64encode(long).decode()}"
    assert len(url) > 1 << 20
    answer = live.transcribe(TALK, **FORM, **{NAMES: "Ann", REFERENCES: url})
    assert speakers(answer) == ["Ann", "A", "Ann", "A"]
    fields = {NAMES: list("abcd"), REFERENCES: [url + "A" * (4 << 20)] * 4}
    assert "16 MB" in refused(live.transcribe(TALK, **FORM, **fields), REFERENCES)


def test_jobs_have_speakers(live: Live) -> None:
    with live.client() as client:
        fields = {"model": "tiny", **FORM}
        file = {"file": ("talk.wav", TALK)}
        job = client.post("/v1/jobs", files=file, data=fields).json()["id"]
        until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "succeeded")
        assert speakers(client.get(f"/v1/jobs/{job}/result")) == ["A", "B", "A", "B"]
        text = client.get(f"/v1/jobs/{job}/result", params={"response_format": "text"}).text
        assert text.startswith("A: ")
        finished = client.get(f"/v1/jobs/{job}/segments").json()["data"]
        assert {segment.get("speaker") for segment in finished} == {None}, "as it was recognized"
        known = {NAMES: "Ann", REFERENCES: reference(0)}
        refused(client.post("/v1/jobs", files=file, data={**fields, **known}), REFERENCES)


def test_models_say_whether_voices_can_be_told_apart(live: Live) -> None:
    with live.client() as client:
        models = client.get("/v1/models").json()["data"]
    assert all(model["capabilities"]["speakers"] for model in models)


def damaged(path: object) -> None:
    raise CheckpointError("A speaker model has to be readable", "it is damaged", "")


def test_without_networks_requests_are_refused(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "load_campplus", damaged)
    monkeypatch.setattr(networks, "load_speaker_encoder", damaged)
    monkeypatch.setattr(Diarizer, "from_pretrained", FROM_PRETRAINED)
    for model in live.server.models:
        monkeypatch.setattr(model.diarizer, "_loaded", None)
    message = refused(live.transcribe(TALK, **FORM), "response_format")
    assert "cannot tell speakers apart by voice" in message
    refused(live.transcribe(TALK, **FORM, diarize="true"), "diarize")
    stereo = wav(SPEECH, channels=2)
    assert sorted(speakers(live.transcribe(stereo, **FORM))) == ["A", "B"]


FROM_PRETRAINED = Diarizer.__dict__["from_pretrained"]


def test_a_named_speaker_model_is_loaded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", FROM_PRETRAINED)
    with pytest.raises(ModelNotFound):
        SharedDiarizer("missing.pt")


def samples(*voices: int | None) -> np.ndarray:
    """Speech of voices, as clients of realtime sessions send it."""
    talk = soxr.resample(conversation(SPEECH, *voices), 16_000, 24_000)
    return (np.clip(talk, -1, 1) * 32767).astype("<i2")


def test_speakers_of_a_realtime_session_are_the_same_in_all_items(live: Live) -> None:
    """Each item is a stream; B speaks first in the second one and keeps the letter."""
    with talk(live.url) as session:
        assert session.update(include=(SPEAKERS,))["type"] == "session.updated"
        first = session.item(samples(0, 0, 0, 1, 1, 1))
        second = session.item(samples(1, 1, 1, 0, 0, 0))
        session.send(CORRECT_SPEAKERS)
        (corrected,) = session.until(CORRECTED_SPEAKERS)
    sent = [[event for event in events if event["type"] == SPEAKERS] for events in (first, second)]
    for events, done in zip(sent, (first[-1], second[-1]), strict=True):
        final = [part for event in events if event["final"] for part in event["speakers"]]
        assert " ".join(part["text"] for part in final).split() == done["transcript"].split()
    starts = [part["start_ms"] for events in sent for part in events[-1]["speakers"]]
    seconds = len(samples(0, 0, 0, 1, 1, 1)) / 24_000
    assert starts == sorted(starts)
    assert starts[-1] >= 1000 * seconds
    assert [item["item_id"] for item in corrected["items"]] == [
        first[-1]["item_id"],
        second[-1]["item_id"],
    ]
    names = [
        list(dict.fromkeys(part["speaker"] for part in item["speakers"]))
        for item in corrected["items"]
    ]
    assert names == [["A", "B"], ["B", "A"]]
    live_names = {part["speaker"] for events in sent for e in events for part in e["speakers"]}
    assert live_names == {"A", "B"}


def test_speakers_of_realtime_sessions_are_requested(live: Live) -> None:
    with talk(live.url) as session:
        assert not [event for event in session.item(samples(0)) if event["type"] == SPEAKERS]
        error = session.ask(CORRECT_SPEAKERS)
        assert (error["type"], error["error"]["param"]) == ("error", "type")


def test_dropped_audio_has_no_corrected_speakers(live: Live) -> None:
    with talk(live.url) as session:
        session.update(include=(SPEAKERS,))
        session.append(samples(0))
        session.send("input_audio_buffer.clear")
        session.until("input_audio_buffer.cleared")
        kept = session.item(samples(1))[-1]
        session.send(CORRECT_SPEAKERS)
        items = session.until(CORRECTED_SPEAKERS)[-1]["items"]
    assert [item["item_id"] for item in items] == [kept["item_id"]]


def test_a_server_without_networks_refuses_speakers_of_sessions(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(shared: SharedDiarizer, param: str = "diarize") -> Diarizer:
        raise unsupported(param, "no networks")

    monkeypatch.setattr(SharedDiarizer, "get", missing)
    with talk(live.url) as session:
        error = session.update(include=(SPEAKERS,))
        assert (error["type"], error["error"]["param"]) == ("error", "session.include")
