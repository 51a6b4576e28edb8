"""Recordings read in other processes: equal chunks, errors and crashes."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from auris import Chunk
from auris.audio.io import Source
from auris.errors import AurisError, UnreadableAudio
from auris.recognition.chunker import AudioChunker
from auris.recognition.prefetch import Prefetcher
from tests.audio.media import wav
from tests.tiny_models import tone_speech

RATE = 16_000


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Five recordings; one is not audio, one is missing."""
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav(tone_speech(1.0 + 2 * number, number)[None]))
        paths.append(str(path))
    (tmp_path / "2.wav").write_text("no sound")
    return [*paths, str(tmp_path / "absent.wav")]


def chunks_of(reading: AudioChunker, source: Source) -> list[Chunk] | str:
    try:
        return list(reading.chunks(source))
    except AurisError as error:
        return f"{type(error).__name__}: {error}"


def read(ahead: Prefetcher, sources: list[Source]) -> list[list[Chunk] | str]:
    found: list[list[Chunk] | str] = []
    for source in ahead.sources(sources):
        try:
            found.append(list(ahead.chunks(source)))
        except AurisError as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def test_prefetched_chunks_and_errors_equal_those_of_the_chunker(files: list[str]) -> None:
    sources: list[Source] = [*files, Path(files[0]), (tone_speech(2.0), RATE)]
    sources += [io.BytesIO(Path(files[1]).read_bytes())]
    reading = AudioChunker(chunk_seconds=1.0, vad=True)
    wanted = [chunks_of(reading, source) for source in sources[:-1]]
    with Prefetcher(reading, 2) as ahead:
        found = read(ahead, sources)
    for ours, theirs in zip(found, [*wanted, wanted[1]], strict=True):
        if isinstance(ours, str):
            assert ours == theirs
            continue
        assert [(c.start, c.skipped) for c in ours] == [(c.start, c.skipped) for c in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            assert np.array_equal(mine.samples, other.samples)


def test_a_process_that_dies_fails_only_its_recording(files: list[str]) -> None:
    """The first recording is longer than what a pipe holds, so its process is not done with it."""
    names = [files[number] for number in (4, 0, 1, 3)]
    with Prefetcher(AudioChunker(), 1) as ahead:
        sources = ahead.sources(names)
        next(sources)
        pid = ahead._readers[0].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UnreadableAudio, match=r"The process that read .*4\.wav' died"):
            list(ahead.chunks(names[0]))
        rest = [list(ahead.chunks(source)) for source in sources]
    assert [len(chunks) for chunks in rest] == [1, 1, 1]


class BrokenChunker(AudioChunker):
    """Fails as a program with a mistake does."""

    def chunks(self, source: Source) -> Iterator[Chunk]:
        raise RuntimeError("mistake")


def test_the_exit_code_of_a_process_is_its_own(files: list[str]) -> None:
    """The process closes its connection before it ends."""
    with Prefetcher(BrokenChunker(), 1) as ahead:
        source = next(ahead.sources(files[:1]))
        with pytest.raises(UnreadableAudio, match=r"died \(exit code 1\)"):
            list(ahead.chunks(source))


def test_processes_end_with_their_connection(files: list[str]) -> None:
    with Prefetcher(AudioChunker(), 2) as ahead:
        next(ahead.sources(list(files)))
        processes = [reader.process for reader in ahead._readers]
    assert not any(process.is_alive() for process in processes)
