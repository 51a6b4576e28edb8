"""Recordings of others: their headers in this process, and whole files in isolated ones."""

from __future__ import annotations

import io
import random
import threading
from contextlib import ExitStack

import numpy as np
import psutil

from auris.audio.isolation import DecodeLimits, DecoderPool
from auris.audio.mp4_tables import is_checked_mp4
from auris.audio.reader import Reader
from auris.audio.truncation import CHECKS, breaks_off
from auris.errors import DecoderCrashed
from tests.audio.fuzzing import Uploads
from tests.audio.media import wav
from tests.fuzzing.target import Target, refusable

SECRET_SAMPLES = 54_320
"""Length of a recording that nobody uploads; scripts and playlists name it."""

LOOK_EVERY = 100
"""Inputs between two looks at the sockets of the decoders."""

LIMITS = DecodeLimits(memory_bytes=256 << 20, wall_seconds=600.0, cpu_seconds=30.0)


class Audio(Target):
    """Files in every container that ffmpeg writes."""

    binary = True

    def prepare(self) -> None:
        secret = self.folder / "secret.wav"
        secret.write_bytes(wav(np.full((1, SECRET_SAMPLES), 1000, np.int16)))
        self._uploads = Uploads(0, str(secret), per_container=1)
        self.corpus = [data for _, data in sorted(self._uploads.whole.items())]
        self._pool = DecoderPool(LIMITS)
        self._inputs = 0
        self.decoded = 0

    def generate(self, rng: random.Random) -> bytes:
        return self._uploads.one()[1]

    def run(self, data: bytes) -> None:
        with refusable(), ExitStack() as stack:
            reader = Reader(io.BytesIO(data), stack)
            is_checked_mp4(reader, "upload")
            for kind in CHECKS:
                breaks_off(kind, reader)
        with refusable():
            self._decode(data)
        self._inputs += 1
        if self._inputs % LOOK_EVERY == 1:
            for process in psutil.Process().children(recursive=True):
                assert not process.net_connections("inet"), "a decoder has a socket"

    def _decode(self, data: bytes) -> None:
        blocks = self._pool.stream(io.BytesIO(data), "mix", threading.Event())
        try:
            samples = sum(block.shape[1] for block in blocks)
        except DecoderCrashed as error:
            # Contained, but still a fault of ffmpeg, or memory that should not have been needed.
            raise AssertionError(str(error)) from error
        self.decoded += 1
        assert samples != SECRET_SAMPLES, "another file was read"

    def close(self) -> None:
        self._pool.close()
