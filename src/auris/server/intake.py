"""Recordings as callers send them: measured, and refused before any of it is recognized.

A recording is decoded once to its end before its turn. So its length is known exactly, what is
damaged or too long is refused with a status of its own, and a few bytes that unpack to hours of
silence cost no more than decoding up to the limit. Short recordings are kept as samples; longer
ones are decoded again, piece by piece, as the engine gets to them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from auris.audio.io import Source, WebLimits, look, stream
from auris.audio.remote import fetched, is_url
from auris.server.failures import ApiError
from auris.server.settings import Settings
from auris.types import SAMPLE_RATE, Samples, Waveform

__all__ = ["Recording", "checked", "fetch", "measured"]

KEPT_SECONDS = 60.0
"""Longest recording whose samples are kept: 3.8 MB."""


@dataclass(frozen=True)
class Recording:
    """A recording that can be transcribed.

    Attributes:
        source: its samples, or its file.
        seconds: how long it is.
        channels: how many it has.
    """

    source: Waveform | IO[bytes]
    seconds: float
    channels: int

    def again(self) -> Source:
        """The source from its beginning."""
        if not isinstance(self.source, Waveform):
            self.source.seek(0)
        return self.source


def checked(file: IO[bytes], settings: Settings) -> int:
    """Look at the header of a file.

    Returns:
        how many channels it has.

    Raises:
        AudioError: it is no audio.
        ApiError: its rate, its channels or the length that it states are beyond the limits.
    """
    file.seek(0)
    header = look(file)
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


def measured(file: IO[bytes], settings: Settings, apart: bool) -> Recording:
    """Decode a file to its end and say what it holds.

    Args:
        file: encoded audio of any kind.
        settings: the limits.
        apart: whether its channels are transcribed each by itself.

    Raises:
        AudioError: it cannot be read to its end.
        ApiError: it is beyond the limits.
    """
    channels = checked(file, settings)
    file.seek(0)
    kept: list[Samples] = []
    count, most = 0, settings.most_audio_seconds * SAMPLE_RATE
    for block in stream(file, urls=None):
        count += block.shape[1]
        if count > most:
            raise _too_long(settings)
        if count <= KEPT_SECONDS * SAMPLE_RATE and not apart:
            kept.append(block[0])
        else:
            kept.clear()
            apart = True
    seconds = count / SAMPLE_RATE
    if kept:
        return Recording(Waveform(np.concatenate(kept)), seconds, channels)
    return Recording(file, seconds, channels)


def fetch(url: str, settings: Settings, stack: ExitStack) -> IO[bytes]:
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
    return fetched(url, "the recording at 'url'", limits, stack)


def _too_long(settings: Settings) -> ApiError:
    return ApiError(
        413,
        f"The recording is longer than {settings.most_audio_seconds:g} s, the most that this "
        "server takes.",
        param="file",
        code="audio_too_long",
    )
