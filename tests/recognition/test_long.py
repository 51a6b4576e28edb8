"""Long recordings: cuts lose no word, and memory depends on the chunk, not on the recording."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.requests import ChunkRequest, DecodeOptions
from auris.recognition.scheduler import RecordingDone, Scheduler
from auris.types import Segment, Transcript
from tests.recognition.batches import ScriptedBatch
from tests.recordings import RATE, clip, write_wav

WORD = round(0.3 * RATE)
LEVELS = 50

QUIETEST = 3
"""Level of the quietest word. A pause is 0.6 s that lie 30 dB below the whole on average. A word of
0.3 s that lies more than 27 dB below it would count as a part of a pause."""


def bursts(request: ChunkRequest, reason: str) -> Segment:
    """Recognizes words that are bursts of sound of different loudness."""
    samples = request.chunk.samples
    loud = np.concatenate([[False], np.abs(samples) > 0.01, [False]])
    edges = np.flatnonzero(loud[1:] != loud[:-1]).reshape(-1, 2)
    words = [f"w{round(LEVELS * float(samples[a:b].max()))}:{b - a}" for a, b in edges]
    start = request.chunk.start / RATE
    end = start + len(samples) / RATE
    return Segment(start, end, " ".join(words), "English", (), (), reason)


def spoken(words: list[int], pauses: list[float]) -> np.ndarray:
    """Bursts of the given loudness after pauses of the given seconds."""
    parts = []
    for number, level in enumerate(words):
        silence = np.zeros(round(pauses[number % len(pauses)] * RATE), np.float32)
        parts += [silence, np.full(WORD, level / LEVELS, np.float32)]
    return np.concatenate([*parts, np.zeros(RATE // 10, np.float32)])


def transcribed(source: Any, reading: AudioChunker) -> Transcript:
    scheduler = Scheduler(ScriptedBatch(bursts), reading.chunks, [source], DecodeOptions())
    *_, done = scheduler.run(lambda: False)
    assert isinstance(done, RecordingDone)
    assert isinstance(done.result, Transcript)
    return done.result


def words_are_complete(result: Transcript, words: list[int]) -> None:
    """Every word occurs once, in order, separated from its neighbours."""
    assert result.text.split() == [f"w{level}:{WORD}" for level in words]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(QUIETEST, LEVELS), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.12, 0.3, 0.7, 6.0]), min_size=1, max_size=7),
    st.floats(2.0, 8.0),
    st.booleans(),
)
def test_cuts_do_not_join_repeat_or_drop_words(
    words: list[int], pauses: list[float], target: float, vad: bool
) -> None:
    result = transcribed((spoken(words, pauses), RATE), AudioChunker(target, vad=vad))
    words_are_complete(result, words)


@pytest.mark.parametrize("vad", [False, True])
def test_many_cuts_lose_no_word(vad: bool) -> None:
    words = [1 + number % LEVELS for number in range(400)]
    samples = spoken(words, [0.12, 0.3, 0.7, 0.12, 2.0])
    result = transcribed((samples, RATE), AudioChunker(3.0, vad=vad))
    words_are_complete(result, words)
    assert sum(not segment.skipped for segment in result.segments) > 60


def write_long(path: Path, parts: int) -> Path:
    """A recording of bursts and pauses, written in parts of half a minute."""
    part = spoken(list(range(1, 21)), [0.5, 0.9, 2.0])
    integers = np.clip(part * 32767, -32768, 32767).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for _ in range(parts):
            out.writeframes(integers)
    return path


@pytest.fixture
def usual_collections() -> Iterator[None]:
    """Garbage collection with Python's default thresholds; the command line has higher ones."""
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.no_cover
@pytest.mark.usefixtures("usual_collections")
@pytest.mark.parametrize("channels", ["mix", "split"])
@pytest.mark.parametrize("vad", [False, True])
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, channels: Any, vad: bool) -> None:
    peaks = []
    for parts in (1, 1, 3):
        path = write_long(tmp_path / "long.wav", parts)
        tracemalloc.start()
        transcribed(str(path), AudioChunker(5.0, channels=channels, vad=vad))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Only segments are kept: one more minute of samples would be 3.8 MB.
    assert peaks[2] < peaks[1] + 150_000


def test_different_channels_do_not_delay_each_other(tmp_path: Path) -> None:
    """One channel is silent for long, while the other is full of words."""
    voice = np.concatenate([spoken(list(range(1, 41)), [0.5])] * 4)
    both = np.stack([voice, np.zeros_like(voice)])
    reading = AudioChunker(5.0, channels="split", vad=True)
    given = [chunk.start / RATE for chunk in reading.chunks((both, RATE))]
    assert given == sorted(given)
    chunks = reading.chunks((both, RATE))
    tracemalloc.start()
    for _ in chunks:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * RATE * 4 * 2


@pytest.mark.parametrize("word_timestamps", [False, True])
def test_finished_files_are_released(
    ctc_directory: Path, tmp_path: Path, word_timestamps: bool
) -> None:
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    path = str(write_wav(tmp_path / "a.wav", 1.5))
    counts = []
    results = pipeline.results([path] * 60, word_timestamps=word_timestamps)
    for number, _ in enumerate(results):
        if number in (20, 59):
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert counts[1] <= counts[0] + 30


def test_arrays_are_released(qwen: AsrPipeline) -> None:
    """The samples of a chunk are released after its segment."""
    list(qwen.segments(clip(4.0), chunk_seconds=1.0, max_new_tokens=2))
    gc.collect()
    held = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.size >= RATE // 2]
    before = len(held)
    for _ in range(3):
        list(qwen.segments(clip(4.0), chunk_seconds=1.0, max_new_tokens=2))
    gc.collect()
    held = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.size >= RATE // 2]
    assert len(held) <= before


@pytest.mark.parametrize("vad", [False, True])
def test_segments_have_no_gaps(qwen: AsrPipeline, vad: bool) -> None:
    rng = np.random.default_rng(5)
    noise = 0.1 * rng.standard_normal(round(64.2 * RATE)).astype(np.float32)
    noise[20 * RATE : 30 * RATE + 77] = 0.0
    result = qwen.transcribe((noise, RATE), chunk_seconds=3.1, vad=vad, max_new_tokens=1)
    segments = result.segments
    assert any(segment.skipped for segment in segments) == vad
    assert segments[0].start == 0.0
    for before, after in itertools.pairwise(segments):
        assert before.end == after.start
    assert segments[-1].end == result.seconds == len(noise) / RATE
