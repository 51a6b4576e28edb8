"""Recordings before their turn: decoded once, outside the server, given up when nobody waits."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from auris.audio.io import load, load_channels
from auris.audio.isolation import DecoderPool
from auris.errors import DecoderCrashed, UnreadableAudio
from auris.server.errors import ApiError
from auris.server.settings import Settings
from auris.server.upload_validation import ClientDisconnected, Recording, measured
from auris.types import Waveform
from tests.audio import poison
from tests.audio.media import chirp, encode, pcm, wav
from tests.server.live import SAID, Live

SETTINGS = Settings(models=("tiny",))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool()
    yield made
    made.close()


@pytest.mark.parametrize("seconds", [2.0, 65.0])
def test_samples_are_those_of_the_file(pool: DecoderPool, seconds: float) -> None:
    data = encode(chirp(seconds, 44_100, 2), 44_100, "mp3", "libmp3lame")
    with ExitStack() as files:
        recording = measured(io.BytesIO(data), SETTINGS, False, pool, files)
        wanted = load(data).samples
        assert (recording.samples, recording.channels) == (len(wanted), 2)
        assert isinstance(recording.source, Waveform) == (seconds < 60)
        for _ in range(2):
            assert np.array_equal(load(recording.again()).samples, wanted)


def test_channels_stay_apart(pool: DecoderPool) -> None:
    data = wav(chirp(3.0, 44_100, 2), 44_100)
    with ExitStack() as files:
        recording = measured(io.BytesIO(data), SETTINGS, True, pool, files)
        for mine, theirs in zip(load_channels(recording.again()), load_channels(data), strict=True):
            assert np.array_equal(mine.samples, theirs.samples)


def test_the_limit_of_length_ends_decoding(pool: DecoderPool) -> None:
    data = encode(np.zeros((1, 100 * 16_000), np.int16), 16_000, "adts", "aac")
    with ExitStack() as files, pytest.raises(ApiError, match="longer than 70 s"):
        measured(io.BytesIO(data), Settings(most_audio_seconds=70.0), False, pool, files)


def test_measuring_ends_when_it_is_cancelled(pool: DecoderPool) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with ExitStack() as files, pytest.raises(ClientDisconnected):
        measured(io.BytesIO(wav(pcm(chirp(60.0)))), SETTINGS, False, pool, files, cancelled)


class _Crashing(DecoderPool):
    """Kills the process of the first recordings that it streams."""

    def __init__(self, crashes: int) -> None:
        super().__init__()
        self.crashes = crashes

    def stream(self, *args: object) -> Iterator[np.ndarray]:  # type: ignore[override]
        for number, block in enumerate(super().stream(*args)):  # type: ignore[arg-type]
            if number == 3 and self.crashes:
                self.crashes -= 1
                for decoder in self._busy:
                    os.kill(decoder._process.pid or 0, signal.SIGKILL)
            yield block


def test_one_crash_is_tried_again_and_two_are_the_recording_s_fault() -> None:
    data = wav(pcm(chirp(90.0)))

    def run(crashes: int) -> Recording:
        pool = _Crashing(crashes)
        try:
            with ExitStack() as files:
                return measured(io.BytesIO(data), SETTINGS, False, pool, files)
        finally:
            pool.close()

    assert run(1).samples == 90 * 16_000
    with pytest.raises(DecoderCrashed):
        run(2)


@pytest.mark.parametrize("kind", sorted(poison.foreign("")))
def test_the_server_refuses_files_that_point_elsewhere(live: Live, kind: str) -> None:
    answer = live.transcribe(poison.foreign("/etc/passwd")[kind]())
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_audio"


def test_the_server_survives_a_change_of_channels(live: Live, example: bytes) -> None:
    assert live.transcribe(poison.channels_change()).status_code in (200, 400)
    assert live.transcribe(example).json()["text"] == SAID


def test_errors_of_decoders_are_of_the_recording() -> None:
    assert issubclass(DecoderCrashed, UnreadableAudio)
