"""A fake microphone for tests."""

from __future__ import annotations

import signal
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


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
        port = self

        class Stream:
            def __enter__(self) -> None:
                for place in range(0, len(port.samples), 800):
                    block = port.samples[place : place + 800, None]
                    callback(block, len(block), None, "overflow" if place == 0 else "")
                # The user presses Ctrl-C.
                signal.setitimer(signal.ITIMER_REAL, 0.5)

            def __exit__(self, *_: object) -> None:
                signal.setitimer(signal.ITIMER_REAL, 0)

        return Stream()
