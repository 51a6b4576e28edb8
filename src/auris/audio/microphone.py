"""Microphones, through PortAudio."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from auris.errors import DeviceError, MissingExtra
from auris.types import Samples

LOG = logging.getLogger(__name__)

BLOCKS_A_SECOND = 10
"""Blocks of samples that a microphone delivers each second."""


@dataclass(frozen=True)
class Microphone:
    """An input device.

    Attributes:
        index: its number, which may change when devices are plugged in.
        name: what the system calls it.
        rate: its usual samples per second.
        usual: whether it is the system's default.
    """

    index: int
    name: str
    rate: int
    usual: bool


def microphones() -> list[Microphone]:
    """The microphones of this machine; maybe none.

    Raises:
        MissingExtra: the package that knows them is not installed.
        DeviceError: the system's library for sound is missing.
    """
    sounddevice = _sounddevice()
    usual = sounddevice.default.device[0]
    return [
        Microphone(index, device["name"], round(device["default_samplerate"]), index == usual)
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


class Sound:
    """A queue of the blocks, float32 [n], that an open microphone delivers.

    Attributes:
        rate: samples per second.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._waiting: queue.SimpleQueue[Samples] = queue.SimpleQueue()

    def put(self, block: Samples) -> None:
        """Add a block."""
        self._waiting.put(block)

    def __iter__(self) -> Iterator[Samples]:
        """Every block, as soon as it is delivered; without end."""
        while True:
            yield self._waiting.get()

    def rest(self) -> Iterator[Samples]:
        """The blocks that are in the queue now."""
        while not self._waiting.empty():
            yield self._waiting.get()


@contextmanager
def listening(query: str | None = None, rate: int | None = None) -> Iterator[Sound]:
    """Open a microphone.

    Args:
        query: index or a part of the name; None is the system's default.
        rate: samples per second; the device's usual rate where None.

    Raises:
        MissingExtra: as of `microphones`.
        DeviceError: there is none, or none or several that match, or it cannot be opened.
    """
    device = _chosen(microphones(), query)
    rate = device.rate if rate is None else rate
    sound = Sound(rate)

    def take(block: Samples, _frames: int, _time: Any, status: Any) -> None:
        if status:
            LOG.warning("the microphone reports %s", status)
        sound.put(block[:, 0].copy())

    sounddevice = _sounddevice()
    with ExitStack() as stack:
        try:
            stack.enter_context(  # This starts it, which may fail, too.
                sounddevice.InputStream(
                    device=device.index,
                    samplerate=rate,
                    channels=1,
                    dtype="float32",
                    blocksize=rate // BLOCKS_A_SECOND,
                    callback=take,
                )
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"The microphone has to open at {rate} Hz",
                f"{device.name!r} does not ({error})",
                "close other programs that use it, or choose another with --device-in or --rate",
            ) from error
        yield sound


def _chosen(devices: list[Microphone], query: str | None) -> Microphone:
    if not devices:
        raise DeviceError(
            "Listening needs a microphone",
            "this machine has none",
            "plug one in, or pipe sound into auris listen -",
        )
    if query is None:
        return next((device for device in devices if device.usual), devices[0])
    if query.isdecimal():
        matching = [device for device in devices if device.index == int(query)]
    else:
        matching = [device for device in devices if query.lower() in device.name.lower()]
    if len(matching) != 1:
        names = ", ".join(f"{device.index}: {device.name}" for device in devices)
        raise DeviceError(
            "--device-in has to mean one microphone",
            f"{query!r} means {len(matching)} of {names}",
            "give its number",
        )
    return matching[0]


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError:
        raise MissingExtra(
            "A microphone needs the package sounddevice",
            "it is not installed",
            "run pip install 'auris-asr[mic]', or pipe sound into auris listen -",
        ) from None
    except OSError as error:
        raise DeviceError(
            "A microphone needs the PortAudio library",
            f"it does not load ({error})",
            "install it (libportaudio2 on Debian), or pipe sound into auris listen -",
        ) from None
    module: ModuleType = sounddevice
    return module
