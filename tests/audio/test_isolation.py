"""Decoding in separate processes: equal samples, and crashes that affect one recording."""

from __future__ import annotations

import gc
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.audio import poison
from tests.audio.media import chirp, encode, pcm, wav

from auris.audio import isolation
from auris.audio.io import load, look
from auris.audio.isolation import DecodeLimits, DecoderPool, DecodingStopped, TurnOver
from auris.errors import AudioError, DecoderCrashed, UnreadableAudio

NEVER = threading.Event()

linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="limits are those of Linux")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool()
    yield made
    made.close()


def decoded(pool: DecoderPool, data: bytes) -> np.ndarray:
    return np.concatenate([b[0] for b in pool.stream(io.BytesIO(data), "mix", NEVER)])


def pids(pool: DecoderPool) -> list[int]:
    return [decoder._process.pid or 0 for decoder in pool._idle]


@pytest.mark.parametrize("container", ["wav", "mp3"])
def test_samples_equal_those_decoded_in_this_process(pool: DecoderPool, container: str) -> None:
    codec = {"wav": "pcm_f32le", "mp3": "libmp3lame"}[container]
    data = encode(chirp(3.0, 44_100, 2), 44_100, container, codec)
    assert np.array_equal(decoded(pool, data), load(data).samples)
    assert pool.header(io.BytesIO(data), NEVER) == look(io.BytesIO(data))
    blocks = list(pool.stream(io.BytesIO(data), "split", NEVER))
    assert {len(block) for block in blocks} == {2}


@pytest.mark.parametrize("kind", sorted(poison.foreign("")))
def test_errors_equal_those_raised_in_this_process(pool: DecoderPool, kind: str) -> None:
    data = poison.foreign("/etc/passwd")[kind]()
    decoded(pool, wav(pcm(chirp(1.0))))
    before = pids(pool)
    with pytest.raises(UnreadableAudio) as here:
        load(io.BytesIO(data))
    with pytest.raises(UnreadableAudio) as there:
        decoded(pool, data)
    assert str(there.value) == str(here.value)
    assert pids(pool) == before  # The process is used again.


@linux
def test_a_decoding_process_cannot_open_files(pool: DecoderPool) -> None:
    decoded(pool, wav(pcm(chirp(1.0))))
    (pid,) = pids(pool)
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (files,) = (line for line in limits if line.startswith("Max open files"))
    assert files.split()[3:5] == ["0", "0"]


@linux
def test_a_crash_fails_only_its_recording() -> None:
    pool = DecoderPool()
    data = wav(pcm(chirp(30.0)))
    blocks = pool.stream(io.BytesIO(data), "mix", NEVER)
    next(blocks)
    (busy,) = pool._busy
    os.kill(busy._process.pid or 0, signal.SIGSEGV)
    with pytest.raises(DecoderCrashed, match="exit code -11"):
        list(blocks)
    assert len(decoded(pool, data)) == 480_000
    pool.close()
    with pytest.raises(DecodingStopped):
        decoded(pool, data)


def test_cancelling_ends_decoding(pool: DecoderPool) -> None:
    cancelled = threading.Event()
    blocks = pool.stream(io.BytesIO(wav(pcm(chirp(60.0)))), "mix", cancelled)
    next(blocks)
    cancelled.set()
    with pytest.raises(DecodingStopped):
        list(blocks)
    assert not pool._busy
    assert len(decoded(pool, wav(pcm(chirp(1.0))))) == 16_000


def test_decoding_is_limited_in_cpu_time(pool: DecoderPool) -> None:
    """The process is used again, also after reading and after a cancellation."""
    data = encode(chirp(10.0, 48_000, 2), 48_000, "adts", "aac") * 720  # Two hours.
    decoded(pool, wav(pcm(chirp(1.0))))
    before, seen = pids(pool), []
    for seconds in (0.0, 0.2):
        blocks = (seen.append(b) for b in pool.stream(io.BytesIO(data), "mix", NEVER, seconds))
        with pytest.raises(TurnOver):
            list(blocks)
        assert pids(pool) == before
    assert 0 < len(seen) < 7200
    with pytest.raises(TurnOver):
        pool.header(io.BytesIO(data), NEVER, 0.0)
    blocks = pool.stream(io.BytesIO(data), "mix", NEVER)
    next(blocks)
    blocks.close()
    assert pids(pool) == before
    assert len(decoded(pool, wav(pcm(chirp(1.0))))) == 16_000
    assert pids(pool) == before


def test_a_process_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "LATE_SECONDS", -1e9)
    pool = DecoderPool()
    with pytest.raises(TurnOver):
        list(pool.stream(io.BytesIO(wav(pcm(chirp(60.0)))), "mix", NEVER, 1e6))
    assert not pool._idle
    assert not pool._busy
    pool.close()


@linux
def test_ended_processes_leave_no_open_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "STOP_SECONDS", -1.0)  # None stops its task in time.
    pool = DecoderPool()
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(3):
            cancelled = threading.Event()
            blocks = pool.stream(io.BytesIO(wav(pcm(chirp(60.0)))), "mix", cancelled)
            next(blocks)
            cancelled.set()
            with pytest.raises(DecodingStopped):
                list(blocks)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()
        pool.close()


@linux
def test_a_recording_over_the_time_limit_is_refused() -> None:
    data = encode(chirp(10.0, 48_000, 2), 48_000, "adts", "aac") * 720  # Two hours.
    for limits in (DecodeLimits(wall_seconds=0.05), DecodeLimits(cpu_seconds=0.05)):
        pool = DecoderPool(limits)
        with pytest.raises(UnreadableAudio, match=r"longer than 0.05 s"):
            decoded(pool, data)
        pool.close()


@linux
def test_a_recording_over_the_memory_limit_is_refused() -> None:
    pool = DecoderPool(DecodeLimits(memory_bytes=64 << 20))
    with pytest.raises(AudioError):
        decoded(pool, poison.claimed_samples(7_000_000))
    assert len(decoded(pool, wav(pcm(chirp(1.0))))) == 16_000
    status = Path(f"/proc/{pids(pool)[0]}/status").read_text().split()
    # The process itself takes 60 MB, the index would take 250.
    assert int(status[status.index("VmHWM:") + 1]) < 200_000
    pool.close()
