"""Recordings as callers send them: measured, and refused before any of it is recognized.

A recording is decoded once to its end before its turn, in a process of its own. So its length is
known exactly, what is damaged or too long is refused with a status of its own, a few bytes that
unpack to hours of silence cost no more than decoding up to the limit, and what a hostile file does
to a codec harms neither the server nor another recording. Of short recordings the samples are kept
in memory, of longer ones in a temporary file of plain samples.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from auris.audio.formats import wav_head
from auris.audio.io import Header, Source, WebLimits
from auris.audio.isolation import DecoderPool, DecodingStopped
from auris.audio.remote import Cancelled, fetched, is_url
from auris.errors import DecoderCrashed
from auris.server.errors import ApiError
from auris.server.settings import Settings
from auris.types import SAMPLE_RATE, Samples, Waveform

__all__ = ["TOO_LONG", "ClientDisconnected", "Recording", "checked", "fetch", "measured"]

TOO_LONG = "audio_too_long"
"""Code of the refusal of a recording that is longer than the limit."""

KEPT_SECONDS = 60.0
"""Longest recording whose samples are kept in memory: 3.8 MB."""

NEVER = threading.Event()
"""Of whoever waits for the end of decoding in any case."""


class ClientDisconnected(Exception):
    """The caller has left, so there is no answer."""


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
        """How long it is."""
        return self.samples / SAMPLE_RATE

    def again(self) -> Source:
        """The source from its beginning."""
        if not isinstance(self.source, Waveform):
            self.source.seek(0)
        return self.source


def checked(
    file: IO[bytes], settings: Settings, decoders: DecoderPool, cancelled: Cancelled = NEVER
) -> int:
    """Look at the header of a file.

    Returns:
        how many channels it has.

    Raises:
        AudioError: it is no audio.
        ApiError: its rate, its channels or the length that it states are beyond the limits.
        ClientDisconnected: it was cancelled.
    """
    header = _header(file, decoders, cancelled)
    for name, value, most in (
        ("sample rate", header.rate, settings.most_sample_rate),
        ("number of channels", header.channels, settings.most_channels),
    ):
        if value > most:
            raise ApiError(
                400,
                f"The {name} of the recording is {value}; this server takes up to {most}.",
                param="file",
                code="invalid_audio",
            )
    if header.seconds is not None and header.seconds > settings.most_audio_seconds + 1:
        raise _too_long(settings)
    return header.channels


def _header(file: IO[bytes], decoders: DecoderPool, cancelled: Cancelled) -> Header:
    try:
        return decoders.header(file, cancelled)
    except DecoderCrashed:
        # Once more: the system may have killed a healthy process.
        return decoders.header(file, cancelled)
    except DecodingStopped:
        raise ClientDisconnected from None


def measured(
    file: IO[bytes],
    settings: Settings,
    apart: bool,
    decoders: DecoderPool,
    files: ExitStack,
    cancelled: Cancelled = NEVER,
) -> Recording:
    """Decode a file to its end.

    Args:
        file: encoded audio of any kind.
        settings: the limits.
        apart: whether its channels are transcribed each by itself.
        decoders: what decodes it.
        files: closes the temporary file that the recording may need.
        cancelled: when set, decoding ends.

    Raises:
        AudioError: it cannot be read to its end, or crashed the decoder twice.
        ApiError: it is beyond the limits.
        ClientDisconnected: it was cancelled.
    """
    channels = checked(file, settings, decoders, cancelled)
    try:
        try:
            return _decoded(file, settings, apart, channels, decoders, files, cancelled)
        except DecoderCrashed:
            # Once more: the system may have killed a healthy process.
            return _decoded(file, settings, apart, channels, decoders, files, cancelled)
    except DecodingStopped:
        raise ClientDisconnected from None


def _decoded(
    file: IO[bytes],
    settings: Settings,
    apart: bool,
    channels: int,
    decoders: DecoderPool,
    files: ExitStack,
    cancelled: Cancelled,
) -> Recording:
    kept = _Kept(apart)
    most = round(settings.most_audio_seconds * SAMPLE_RATE)
    with ExitStack() as stack:
        stack.callback(kept.close)
        for block in decoders.stream(file, "split" if apart else "mix", cancelled):
            kept.add(block)
            if kept.samples > most:
                raise _too_long(settings)
        stack.pop_all()
    files.callback(kept.close)
    return Recording(kept.source(), kept.samples, channels)


class _Kept:
    """The samples of a recording as they are decoded: first in memory, from some length on in a
    temporary WAV file."""

    def __init__(self, apart: bool) -> None:
        self.samples = 0
        self._in_memory: list[Samples] = []
        self._most_in_memory = 0 if apart else round(KEPT_SECONDS * SAMPLE_RATE)
        self._file: IO[bytes] | None = None

    def add(self, block: Samples) -> None:
        """Take float32 [C, n]."""
        self.samples += block.shape[1]
        if self._file is None:
            self._in_memory.append(block)
            if self.samples <= self._most_in_memory:
                return
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.write(wav_head(len(block), SAMPLE_RATE))
            block = np.concatenate(self._in_memory, axis=1)
            self._in_memory.clear()
        self._file.write(np.ascontiguousarray(block.T, "<f4").data)

    def source(self) -> Waveform | IO[bytes]:
        """What was taken."""
        if self._file is not None:
            return self._file
        return Waveform(np.concatenate(self._in_memory, axis=1)[0])

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()


def fetch(
    url: str, settings: Settings, stack: ExitStack, cancelled: Cancelled = NEVER
) -> IO[bytes]:
    """Fetch a recording from the public web.

    Raises:
        AudioError: it cannot be fetched.
        ApiError: addresses are switched off, or this is none.
    """
    if not settings.urls:
        raise ApiError(
            400,
            "Unsupported 'url': this server does not fetch recordings.",
            param="url",
            code="unsupported_parameter",
        )
    if not is_url(url):
        raise ApiError(
            400, "Invalid 'url': it has to be http or https.", param="url", code="invalid_value"
        )
    limits = WebLimits(settings.most_upload_bytes, total_seconds=600.0, public_only=True)
    return fetched(url, "the recording at 'url'", limits, stack, cancelled)


def _too_long(settings: Settings) -> ApiError:
    return ApiError(
        413,
        f"The recording is longer than {settings.most_audio_seconds:g} s, the most that this "
        "server takes.",
        param="file",
        code=TOO_LONG,
    )
