"""Recordings of requests: decoded to their end, and refused before any of it is recognized.

A recording is decoded once to its end before it is recognized, in a process of its own. Its length
is then known exactly, what is damaged or too long has a status of its own, a few bytes that unpack
to hours of silence cost no more than decoding up to the limit, and a hostile file harms neither the
server nor another recording. Samples of short recordings stay in memory, those of longer ones are
in a temporary WAV file; both count as much as uploads do.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TypeVar

import numpy as np

from auris.audio.formats import wav_head
from auris.audio.io import Channels, Source
from auris.audio.isolation import DecoderPool, DecodingStopped
from auris.audio.remote import Cancelled, WebLimits, fetched, is_url
from auris.errors import DecoderCrashed
from auris.server.errors import ApiError, ClientDisconnected, invalid, unsupported
from auris.server.settings import Settings
from auris.server.upload import SpoolBudget
from auris.types import SAMPLE_RATE, Samples, Waveform

T = TypeVar("T")

IN_MEMORY_SECONDS = 60.0
"""Longest recording whose samples stay in memory: 3.8 MB."""

NEVER = threading.Event()
"""For decoding that is not cancelled."""


@dataclass(frozen=True)
class DecodeContext:
    """What decodes a recording, and within which limits.

    Attributes:
        decoders: processes that decode.
        settings: limits of recordings.
        budget: for the samples.
        cancelled: when set, decoding ends.
        turn_seconds: computing time that decoding may take.
    """

    decoders: DecoderPool
    settings: Settings
    budget: SpoolBudget
    cancelled: Cancelled = NEVER
    turn_seconds: float = float("inf")


@dataclass(frozen=True)
class Recording:
    """A recording that can be transcribed.

    Attributes:
        source: its samples, or a WAV file of them.
        samples: how many there are at 16 kHz, of each channel.
        channels: how many it has.
    """

    source: Waveform | IO[bytes]
    samples: int
    channels: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / SAMPLE_RATE

    def again(self) -> Source:
        """The source from its beginning."""
        if not isinstance(self.source, Waveform):
            self.source.seek(0)
        return self.source


def checked(file: IO[bytes], context: DecodeContext) -> int:
    """Check the header of a file.

    Returns:
        how many channels it has.

    Raises:
        AudioError: it is no audio.
        ApiError: its rate, its channels or the length that it states are beyond the limits.
        ClientDisconnected: it was cancelled.
        TurnOver: it took too much computing time.
    """
    settings = context.settings
    header = _decode(lambda: context.decoders.header(file, context.cancelled, context.turn_seconds))
    for name, value, most in (
        ("sample rate", header.rate, settings.most_sample_rate),
        ("number of channels", header.channels, settings.most_channels),
    ):
        if value > most:
            rule = f"The {name} of the recording is {value}; this server takes up to {most}."
            raise ApiError(400, rule, param="file", code="invalid_audio")
    if header.seconds is not None and header.seconds > settings.most_audio_seconds + 1:
        raise _too_long(settings)
    return header.channels


def measured(file: IO[bytes], apart: bool, context: DecodeContext, files: ExitStack) -> Recording:
    """Decode a file to its end.

    Args:
        file: encoded audio of any kind.
        apart: whether its channels are transcribed each by itself.
        context: what decodes it, and the limits.
        files: closes the temporary file that the recording may need, and returns its bytes to the
            budget.

    Raises:
        AudioError: it cannot be read to its end, or crashed the decoder twice.
        ApiError: it is beyond the limits, or there is no room for its samples.
        ClientDisconnected: it was cancelled.
        TurnOver: it took too much computing time.
    """
    channels = checked(file, context)
    channels_mode: Channels = "split" if apart else "mix"
    most = context.settings.most_audio_seconds

    def decode() -> Recording:
        with ExitStack() as stack:
            store = _SampleStore(stack, context.budget, in_memory=not apart)
            for block in context.decoders.stream(
                file, channels_mode, context.cancelled, context.turn_seconds
            ):
                store.add(block)
                if store.samples > most * SAMPLE_RATE:
                    raise _too_long(context.settings)
            files.push(stack.pop_all())
        return Recording(store.source(), store.samples, channels)

    return _decode(decode)


def _decode(decode: Callable[[], T]) -> T:
    """What a process decodes; twice where it crashes, since the system may have killed it."""
    try:
        try:
            return decode()
        except DecoderCrashed:
            return decode()
    except DecodingStopped:
        raise ClientDisconnected from None


class _SampleStore:
    """The samples of a recording while it is decoded: in memory, from some length on in a file."""

    def __init__(self, files: ExitStack, budget: SpoolBudget, in_memory: bool) -> None:
        self.samples = 0
        self._bytes = 0
        self._budget = budget
        files.callback(lambda: budget.change(-self._bytes))
        self._files = files
        self._blocks: list[Samples] = []
        self._most_in_memory = round(IN_MEMORY_SECONDS * SAMPLE_RATE) if in_memory else 0
        self._file: IO[bytes] | None = None

    def add(self, block: Samples) -> None:
        """Add float32 [C, n].

        Raises:
            ApiError: there is no room for them, now or at all.
        """
        if self._bytes + block.nbytes > self._budget.most_bytes:
            fault = (
                f"Decoded, the recording takes more than {self._budget.most_bytes >> 20} MB, the"
            )
            remedy = "send it in parts, or with fewer channels"
            message = f"{fault} most that this server stores: {remedy}."
            raise ApiError(413, message, param="file", code="audio_too_large")
        self._budget.change(block.nbytes)
        self._bytes += block.nbytes
        self.samples += block.shape[1]
        if self._file is None:
            self._blocks.append(block)
            if self.samples <= self._most_in_memory:
                return
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._files.enter_context(self._file)
            self._file.write(wav_head(len(block), SAMPLE_RATE))
            block = np.concatenate(self._blocks, axis=1)
            self._blocks.clear()
        self._file.write(np.ascontiguousarray(block.T, "<f4").data)

    def source(self) -> Waveform | IO[bytes]:
        """All samples."""
        return self._file or Waveform(np.concatenate(self._blocks, axis=1)[0])


def fetch(
    url: str, settings: Settings, stack: ExitStack, cancelled: Cancelled = NEVER
) -> IO[bytes]:
    """Download a recording from the public web.

    Raises:
        AudioError: it cannot be downloaded.
        ApiError: the server does not download recordings, or this is no address.
    """
    if not settings.urls:
        raise unsupported("url", "this server does not fetch recordings")
    if not is_url(url):
        raise invalid("url", "it has to be http or https")
    limits = WebLimits(settings.most_upload_bytes, total_seconds=600.0, public_only=True)
    return fetched(url, "the recording at 'url'", limits, stack, cancelled)


def _too_long(settings: Settings) -> ApiError:
    most = f"{settings.most_audio_seconds:g} s"
    message = f"The recording is longer than {most}, the most that this server takes."
    return ApiError(413, message, param="file", code="audio_too_long")
