"""Uploads: decoded once, outside the server process, and cancelled with their client."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from auris.audio.io import load, load_channels
from auris.audio.isolation import DecoderPool
from auris.errors import DecoderCrashed, UnreadableAudio
from auris.server.errors import ApiError, ClientDisconnected
from auris.server.settings import Settings
from auris.server.upload import SpoolBudget
from auris.server.upload_validation import (
    DecodeContext,
    Recording,
    measured,
)
from auris.types import SAMPLE_RATE, Waveform
from tests.audio import poison
from tests.audio.media import chirp, encode, pcm, wav
from tests.server.live import EXAMPLE_TEXT, Live


def context(pool: DecoderPool, budget: int = 1 << 40, **settings: float) -> DecodeContext:
    return DecodeContext(pool, Settings(models=("tiny",), **settings), SpoolBudget(budget))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool()
    yield made
    made.close()


@pytest.mark.parametrize("seconds", [2.0, 65.0])
def test_an_upload_has_the_samples_of_its_file(pool: DecoderPool, seconds: float) -> None:
    data = encode(chirp(seconds, 44_100, 2), 44_100, "mp3", "libmp3lame")
    with ExitStack() as files:
        recording = measured(io.BytesIO(data), False, context(pool), files)
        wanted = load(data).samples
        assert (recording.samples, recording.channels) == (len(wanted), 2)
        assert isinstance(recording.source, Waveform) == (seconds < 60)
        for _ in range(2):
            assert np.array_equal(load(recording.again()).samples, wanted)


def test_channels_are_decoded_separately(pool: DecoderPool) -> None:
    data = wav(chirp(3.0, 44_100, 2), 44_100)
    with ExitStack() as files:
        recording = measured(io.BytesIO(data), True, context(pool), files)
        for mine, theirs in zip(load_channels(recording.again()), load_channels(data), strict=True):
            assert np.array_equal(mine.samples, theirs.samples)


def test_decoding_stops_at_the_length_limit(pool: DecoderPool) -> None:
    data = encode(np.zeros((1, 100 * 16_000), np.int16), 16_000, "adts", "aac")
    with ExitStack() as files, pytest.raises(ApiError, match="longer than 70 s"):
        measured(io.BytesIO(data), False, context(pool, most_audio_seconds=70.0), files)


def test_measuring_the_duration_can_be_cancelled(pool: DecoderPool) -> None:
    cancelled = threading.Event()
    cancelled.set()
    data = io.BytesIO(wav(pcm(chirp(60.0))))
    with ExitStack() as files, pytest.raises(ClientDisconnected):
        measured(data, False, replace(context(pool), cancelled=cancelled), files)


@pytest.mark.parametrize("channels", [1, 2])
def test_decoded_samples_count_towards_the_upload_budget(pool: DecoderPool, channels: int) -> None:
    """A small upload may need much more memory when it is decoded."""
    seconds, size = 2, 2 * channels * SAMPLE_RATE * 4
    data = encode(chirp(seconds, SAMPLE_RATE, channels), SAMPLE_RATE, "flac", "flac")
    ours = context(pool, budget=3 * size // 2)
    with ExitStack() as files:
        assert measured(io.BytesIO(data), channels > 1, ours, files).seconds == seconds
        assert ours.budget.used == size
        with pytest.raises(ApiError) as refused, ExitStack() as more:
            measured(io.BytesIO(data), channels > 1, ours, more)
        assert refused.value.status == 429
        assert ours.budget.used == size
    assert ours.budget.used == 0
    with ExitStack() as files, pytest.raises(ApiError, match="Decoded") as refused:
        measured(io.BytesIO(data), channels > 1, context(pool, budget=size - 1), files)
    assert refused.value.status == 413


class _Late(DecoderPool):
    """The caller gives up when everything is decoded, and closes its files."""

    def __init__(self, files: ExitStack, cancelled: threading.Event) -> None:
        super().__init__()
        self.files, self.cancelled = files, cancelled

    def stream(self, *args: object) -> Iterator[np.ndarray]:
        yield from super().stream(*args)
        self.cancelled.set()
        self.files.close()


def test_a_client_that_disconnects_at_the_end_of_decoding_takes_no_budget() -> None:
    files, cancelled = ExitStack(), threading.Event()
    pool = _Late(files, cancelled)
    ours = replace(context(pool), cancelled=cancelled)
    with pytest.raises(ClientDisconnected):
        measured(io.BytesIO(wav(pcm(chirp(2.0)))), False, ours, files)
    assert ours.budget.used == 0
    pool.close()


class _Crashing(DecoderPool):
    """Kills the process of the first recordings that it decodes."""

    def __init__(self, crashes: int) -> None:
        super().__init__()
        self.crashes = crashes

    def stream(self, *args: object) -> Iterator[np.ndarray]:
        for number, block in enumerate(super().stream(*args)):
            if number == 3 and self.crashes:
                self.crashes -= 1
                for decoder in self._busy:
                    os.kill(decoder._process.pid or 0, signal.SIGKILL)
            yield block


def test_a_recording_that_crashes_the_decoder_twice_is_refused() -> None:
    data = wav(pcm(chirp(90.0)))

    def run(crashes: int) -> Recording:
        pool = _Crashing(crashes)
        try:
            with ExitStack() as files:
                return measured(io.BytesIO(data), False, context(pool), files)
        finally:
            pool.close()

    assert run(1).samples == 90 * 16_000
    with pytest.raises(DecoderCrashed):
        run(2)


@pytest.mark.parametrize("kind", sorted(poison.foreign("")))
def test_files_that_reference_other_files_are_refused(live: Live, kind: str) -> None:
    answer = live.transcribe(poison.foreign("/etc/passwd")[kind]())
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_audio"


def test_a_change_of_channels_inside_a_file_is_decoded(live: Live, example: bytes) -> None:
    assert live.transcribe(poison.channels_change()).status_code in (200, 400)
    assert live.transcribe(example).json()["text"] == EXAMPLE_TEXT


def test_decoder_errors_are_reported_as_errors_of_the_recording() -> None:
    assert issubclass(DecoderCrashed, UnreadableAudio)
