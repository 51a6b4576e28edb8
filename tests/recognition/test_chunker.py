"""Split channels: the chunks of each channel, in the order of time, with speakers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris import AsrPipeline, Chunk
from auris.errors import EmptyAudio, UnreadableAudio, UsageError
from auris.recognition.chunker import AudioChunker
from tests.audio.media import wav
from tests.recordings import BUDGET, RATE, plain, tokens
from tests.tiny_models import tone_speech


def call(seconds: float = 6.0, channels: int = 2) -> np.ndarray:
    """Voices as channels, float32 [C, S]."""
    return np.stack([tone_speech(seconds, seed) for seed in range(channels)])


@given(st.floats(0.1, 9.0), st.integers(1, 3), st.floats(1.0, 4.0), st.sampled_from([0.0, 0.05]))
def test_split_channels_have_the_chunks_of_each_channel(
    seconds: float, channels: int, chunk: float, start: float
) -> None:
    rows = call(seconds, channels)
    both = list(AudioChunker(chunk, start, channels="split").chunks((rows, RATE)))
    assert [chunk.start for chunk in both] == sorted(chunk.start for chunk in both)
    for number, row in enumerate(rows):
        alone = list(AudioChunker(chunk, start).chunks((row, RATE)))
        own = [chunk for chunk in both if chunk.speaker == f"channel {number + 1}"]
        assert [chunk.start for chunk in own] == [chunk.start for chunk in alone]
        for mine, wanted in zip(own, alone, strict=True):
            np.testing.assert_array_equal(mine.samples, wanted.samples)
    assert len({chunk.speaker for chunk in both}) == channels


def test_chunks_are_read_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long call, about one chunk of each channel is in memory."""
    asked = 0

    def blocks(*_: Any, **__: Any) -> Iterator[np.ndarray]:
        nonlocal asked
        for _ in range(600):
            asked += 1
            yield np.random.default_rng(asked).standard_normal((2, RATE)).astype(np.float32)

    monkeypatch.setattr("auris.recognition.chunker.stream", blocks)
    taken = 0
    for chunk in AudioChunker(10.0, channels="split").chunks(b""):
        taken = max(taken, chunk.start // RATE)
        assert asked <= taken + 3 * 15
    assert taken > 550


@pytest.mark.parametrize(
    ("speakers", "channels", "found"),
    [
        (["a", "b"], "mix", "the channels are mixed"),
        (["a", "a"], "split", "'a', 'a'"),
        (["a", " "], "split", "' '"),
        ("ab", "split", "'ab'"),
        ([1, 2], "split", "1, 2"),
        (None, "apart", "'apart'"),
    ],
)
def test_invalid_speakers_and_channels_are_refused(
    speakers: Any, channels: Any, found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        AudioChunker(channels=channels, speakers=speakers)


@pytest.mark.parametrize("speakers", [["a"], ["a", "b", "c"], []])
def test_a_wrong_number_of_speakers_is_refused(speakers: Sequence[str]) -> None:
    reading = AudioChunker(channels="split", speakers=speakers)
    with pytest.raises(UsageError, match=f"{len(speakers)} speakers are named for 2"):
        list(reading.chunks((call(1.0), RATE)))


def test_a_silent_recording_with_split_channels() -> None:
    with pytest.raises(EmptyAudio):
        list(AudioChunker(channels="split").chunks((np.zeros((2, 0), np.float32), RATE)))


def test_chunks_of_a_mix_have_no_speaker() -> None:
    (chunk,) = AudioChunker().chunks((call(1.0), RATE))
    assert isinstance(chunk, Chunk)
    assert chunk.speaker is None


# Whole pipelines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
def test_a_stereo_call(qwen: AsrPipeline, rows: int) -> None:
    sound = call(5.0)
    options: dict[str, Any] = {"chunk_seconds": 1.5, "max_new_tokens": BUDGET, "batch_size": rows}
    both = qwen.transcribe((sound, RATE), channels="split", speakers=["Alice", "Bob"], **options)
    assert both.seconds == 5.0
    assert both.finish_reason in ("stop", "length")
    starts = [segment.start for segment in both.segments]
    assert starts == sorted(starts)
    for row, name in zip(sound, ("Alice", "Bob"), strict=True):
        alone = qwen.transcribe((row, RATE), **options)
        own = [segment for segment in both.segments if segment.speaker == name]
        assert [segment.tokens for segment in own] == tokens(alone)
        assert [segment.start for segment in own] == [s.start for s in alone.segments]
    assert {segment["speaker"] for segment in plain(both)["segments"]} == {"Alice", "Bob"}
    given = qwen.segments((sound, RATE), channels="split", speakers=["Alice", "Bob"], **options)
    assert [segment.speaker for segment in given] == [s.speaker for s in both.segments]


def test_a_wrong_number_of_speakers_fails_its_recording_alone(qwen: AsrPipeline) -> None:
    sources = [wav(call(1.0, count)) for count in (2, 1)]
    results = dict(qwen.results(sources, channels="split", speakers=["a", "b"], max_new_tokens=3))
    assert [type(results[number]).__name__ for number in (0, 1)] == ["Transcript", "Failure"]


def test_segments_of_a_mix_have_no_speaker(qwen: AsrPipeline) -> None:
    mixed = qwen.transcribe((call(1.0), RATE), max_new_tokens=3)
    assert [segment.speaker for segment in mixed.segments] == [None]
    assert "speaker" not in mixed.to_dict()["segments"][0]


@pytest.mark.parametrize("channels", ["mix", "split"])
@pytest.mark.parametrize("vad", [False, True])
def test_audio_before_damage_is_read(channels: Any, vad: bool) -> None:
    content = wav(call(6.0))
    reader = AudioChunker(2.0, channels=channels, vad=vad)
    chunks: list[Chunk] = []
    with pytest.raises(UnreadableAudio):
        chunks.extend(reader.chunks(content[: len(content) * 2 // 3]))
    ends: dict[str | None, int] = {}
    for chunk in chunks:
        assert chunk.start == ends.get(chunk.speaker, 0)
        ends[chunk.speaker] = chunk.start + len(chunk.samples) + chunk.skipped
    assert len(ends) == (2 if channels == "split" else 1)
    assert all(3.9 * RATE < end <= 4.0 * RATE for end in ends.values())
