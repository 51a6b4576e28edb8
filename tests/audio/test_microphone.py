"""Microphones that cannot be used; `tests/cli` listens to one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from auris.audio.microphone import listening
from auris.errors import DeviceError


class PortAudioError(Exception):
    """The error of sounddevice."""


@contextmanager
def started(**_: Any) -> Iterator[None]:
    raise PortAudioError("Device unavailable")
    yield


def test_a_microphone_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"name": "desk", "max_input_channels": 1, "default_samplerate": 16e3}
    fake = SimpleNamespace(
        PortAudioError=PortAudioError,
        default=SimpleNamespace(device=(0, 0)),
        query_devices=lambda: [device],
        InputStream=started,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    with pytest.raises(DeviceError, match="Device unavailable"), listening():
        pass
