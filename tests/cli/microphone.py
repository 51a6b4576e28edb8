"""A fake microphone for tests."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from auris.audio.microphone import Sound

TICK_SECONDS = 0.02
"""How often an open microphone looks whether the command waits for more samples."""

MOST_TICKS = 6000
"""After so many (two minutes) a command that never waits for samples fails."""


class Port(ModuleType):
    """A replacement for sounddevice, since test machines have no microphone."""

    class PortAudioError(Exception):
        """The error of sounddevice."""

    def __init__(self, names: list[str], samples: np.ndarray) -> None:
        super().__init__("sounddevice")
        self.default = SimpleNamespace(device=(1, 0))
        self.names = names
        self.samples = samples
        self.opened: dict[str, Any] = {}

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "max_input_channels": int(name != "speaker"), "default_samplerate": 8e3}
            for name in self.names
        ]

    def InputStream(self, callback: Any, **given: Any) -> Any:  # noqa: N802
        if given["samplerate"] == 96_000:
            raise Port.PortAudioError("Invalid sample rate")
        self.opened = given
        return self._stream(callback)

    @contextmanager
    def _stream(self, callback: Any) -> Iterator[None]:
        """Deliver all samples at once, then press Ctrl-C as soon as they have been worked on."""
        for start in range(0, len(self.samples), 800):
            block = self.samples[start : start + 800, None]
            callback(block, len(block), None, "overflow" if start == 0 else "")
        ticks = itertools.count()

        def tick(_number: int, frame: FrameType | None) -> None:
            assert next(ticks) < MOST_TICKS, "the command does not wait for samples"
            _interrupt_waiting(frame)

        before = signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _interrupt_waiting(frame: FrameType | None) -> None:
    """Send Ctrl-C to the main thread, if it waits for samples just now: at any other moment the
    signal could reach another part of the command, or the program that runs the tests."""
    if frame is None or frame.f_code is not Sound.__iter__.__code__:
        return
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if frame.f_locals["self"]._waiting.empty():
        signal.raise_signal(signal.SIGINT)
