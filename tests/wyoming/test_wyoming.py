"""Transcription by the Wyoming protocol: its events, its texts, and many clients at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from auris import AsrPipeline
from auris.audio.arrays import from_pcm
from auris.audio.io import load
from auris.audio.resample import resample
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, until
from tests.wyoming.live import Running, running
from tests.wyoming.talk import Client, pcm, talk


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return load(EXAMPLE).samples


def test_info_describes_the_models(served: Running) -> None:
    async def ask(client: Client) -> Info:
        await client.send(Describe())
        return Info.from_event((await client.until("info"))[0])

    (program,) = talk(served.uri, ask).asr
    assert [(model.name, model.languages) for model in program.models] == [
        ("tiny", ["en"]),
        ("tiny-ctc", ["en"]),
    ]
    assert program.supports_transcript_streaming
    assert program.requires_external_vad
    assert program.installed


def test_ping_is_answered_with_its_text(served: Running) -> None:
    async def ask(client: Client) -> Pong:
        await client.send(Ping("x"))
        return Pong.from_event((await client.until("pong"))[0])

    assert talk(served.uri, ask).text == "x"


def test_unknown_events_are_ignored(served: Running) -> None:
    async def ask(client: Client) -> str:
        await client.send(Event("select-program", {"name": "x"}), Event("other"), Ping("y"))
        return (await client.until("pong"))[0].type

    assert talk(served.uri, ask) == "pong"


def test_the_text_is_that_of_the_file_and_comes_in_chunks(
    served: Running, tiny: AsrPipeline, samples: np.ndarray
) -> None:
    said = np.concatenate([samples, np.zeros(16_000, np.float32)] * 4)
    audio = pcm(said)

    async def speak(client: Client) -> list[Event]:
        await client.send(Transcribe(name="tiny", language="en-US"))
        await client.speak(audio)
        await client.send(AudioStop())
        return await client.until("transcript-stop")

    events = talk(served.uri, speak)
    kinds = [event.type for event in events]
    assert kinds[0] == "transcript-start"
    assert kinds[-2:] == ["transcript", "transcript-stop"]
    assert set(kinds[1:-2]) == {"transcript-chunk"}
    assert len(kinds) > 4
    transcript = Transcript.from_event(events[-2])
    assert TranscriptStart.from_event(events[0]).language == transcript.language == "en"
    assert "".join(event.data["text"] for event in events[1:-2]) == transcript.text
    expected = tiny.transcribe((from_pcm(audio, 2, 1)[0], 16_000), "en")
    assert transcript.text == expected.text
    assert transcript.text.count("kitchen") == 4


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(16_000, 1, 1), (48_000, 2, 2), (8_000, 2, 1), (44_100, 3, 1), (22_050, 4, 2)],
)
def test_audio_of_any_format_is_used(
    served: Running, samples: np.ndarray, rate: int, width: int, channels: int
) -> None:
    if rate != 16_000:
        import soxr

        samples = soxr.resample(samples, 16_000, rate)
    audio = pcm(np.stack([samples] * channels, axis=1), width)
    block = 600 * width * channels
    text = talk(
        served.uri,
        lambda client: client.transcribe(
            audio, block=block, rate=rate, width=width, channels=channels
        ),
    )
    assert text == EXAMPLE_TEXT


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_raw_samples_have_full_scale_at_one(width: int) -> None:
    values = np.array([[-1.0, 0.5], [0.0, 0.25]], np.float32)
    integers = (values * 2 ** (8 * width - 1)).astype(np.int64)
    if width == 1:
        integers += 128
    data = b"".join(int(n).to_bytes(width, "little", signed=width > 1) for n in integers.ravel())
    assert from_pcm(data, width, 2).tolist() == values.T.tolist()


def test_a_connection_serves_several_transcriptions(served: Running, samples: np.ndarray) -> None:
    async def speak(client: Client) -> list[str]:
        first = await client.transcribe(pcm(samples), language="English")
        await client.send(Transcribe(name="tiny-ctc"))
        second = await client.transcribe(pcm(samples))
        return [first, second, await client.transcribe(b"")]

    assert talk(served.uri, speak) == [EXAMPLE_TEXT, EXAMPLE_TEXT, ""]


def test_audio_without_transcribe_and_without_a_start_is_used(
    served: Running, samples: np.ndarray
) -> None:
    async def speak(client: Client) -> str:
        await client.send(AudioChunk(16_000, 2, 1, pcm(samples)), AudioStop())
        return Transcript.from_event((await client.until("transcript"))[-1]).text

    assert talk(served.uri, speak) == EXAMPLE_TEXT


def test_names_to_expect_are_hotwords(served: Running, samples: np.ndarray) -> None:
    async def speak(client: Client) -> str:
        names = {"transcript_names": ["kitchen fan"], "transcript_terms": ["off", ""]}
        await client.send(Event("transcribe", names))
        await client.speak(pcm(samples))
        await client.send(AudioStop())
        return Transcript.from_event((await client.until("transcript"))[-1]).text

    assert talk(served.uri, speak) == EXAMPLE_TEXT


def test_many_clients_speak_at_once(tiny: AsrPipeline, samples: np.ndarray) -> None:
    silence = np.zeros(8000, np.float32)

    async def client_of(uri: str, count: int) -> str:
        async with AsyncClient.from_uri(uri) as client:
            return await Client(client).transcribe(
                pcm(np.concatenate([samples, silence] * count)), block=2000 + 100 * count
            )

    async def all_of(uri: str) -> list[str]:
        counts = [1, 2, 3, 4]
        return await asyncio.gather(*(client_of(uri, count) for count in counts))

    with running(tiny) as server:
        texts = asyncio.run(all_of(server.uri))
        assert server.server.service.active == 0
    assert [text.count("kitchen fan") for text in texts] == [1, 2, 3, 4]


def test_a_socket_of_the_file_system(
    tiny: AsrPipeline, samples: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "wyoming"
    with running(tiny, uri=f"unix://{path}") as server:
        assert server.uri == f"unix://{path}"
        text = talk(server.uri, lambda client: client.transcribe(pcm(samples)))
    assert text == EXAMPLE_TEXT
    assert not path.exists()


def test_the_audio_is_resampled_as_a_stream(tiny: AsrPipeline, samples: np.ndarray) -> None:
    """Blocks of any size give the text of the audio resampled at once."""
    import soxr

    at_8k = from_pcm(pcm(soxr.resample(samples, 16_000, 8_000)), 2, 1)[0]
    expected = tiny.transcribe((resample(at_8k, 8_000), 16_000)).text
    with running(tiny) as server:
        for block in (202, 4000, 1 << 20):
            text = talk(
                server.uri,
                lambda client, block=block: client.transcribe(pcm(at_8k), block=block, rate=8_000),
            )
            assert text == expected


def test_a_client_that_disconnects_frees_its_stream(served: Running, samples: np.ndarray) -> None:
    async def leave(client: Client) -> None:
        await client.send(AudioStart(16_000, 2, 1), AudioChunk(16_000, 2, 1, pcm(samples)), Ping())
        await client.until("pong")

    async def speak(client: Client) -> str:
        return await client.transcribe(pcm(samples))

    for _ in range(served.server.service.limits.streams + 1):
        talk(served.uri, leave)
        until(lambda: served.server.service.active == 0)
    assert talk(served.uri, speak) == EXAMPLE_TEXT


def test_silence_has_an_empty_text(served: Running) -> None:
    hiss = np.random.default_rng(0).normal(0, 1e-3, 80_000).astype(np.float32)

    async def speak(client: Client) -> list[Event]:
        events = []
        for audio in (bytes(160_000), pcm(hiss)):
            await client.speak(audio)
            await client.send(AudioStop())
            events += await client.until("transcript-stop")
        return events

    events = talk(served.uri, speak)
    assert [event.type for event in events] == [
        *("transcript-start", "transcript", "transcript-stop") * 2
    ]
    assert Transcript.from_event(events[1]).text == Transcript.from_event(events[4]).text == ""


@pytest.mark.parametrize("complete", [False, True])
def test_a_client_that_disconnects_does_not_affect_another(
    tiny: AsrPipeline, samples: np.ndarray, complete: bool
) -> None:
    """The first one leaves in the middle of its audio, or does not read its text."""
    audio = pcm(samples)
    half = len(audio) // 4 * 2

    async def speak(uri: str) -> str:
        async with AsyncClient.from_uri(uri) as second:
            other = Client(second)
            async with AsyncClient.from_uri(uri) as first:
                await Client(first).speak(audio)
                await other.speak(audio[:half])
                if complete:
                    await Client(first).send(AudioStop())
                else:
                    await Client(first).send(AudioChunk(16_000, 2, 1, audio))
            await other.send(AudioChunk(16_000, 2, 1, audio[half:]), AudioStop())
            return Transcript.from_event((await other.until("transcript"))[-1]).text

    with running(tiny) as server:
        assert asyncio.run(speak(server.uri)) == EXAMPLE_TEXT
        until(lambda: server.server.service.active == 0)
        assert not server.server.service.pick(None).pool._sessions
