"""Recordings of requests: decoded to their end, and refused before any of it is recognized.

A recording is decoded once to its end before it is recognized, in a process of its own. Its length
is then known exactly, what is damaged or too long has a status of its own, a few bytes that unpack
to hours of silence cost no more than decoding up to the limit, and a hostile file harms neither the
server nor another recording. Samples of short recordings stay in memory, those of longer ones are
in a temporary WAV file; both count as much as uploads do.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from starlette.datastructures import UploadFile
from starlette.requests import Request

from auris.audio.formats import wav_head
from auris.audio.io import Source
from auris.audio.isolation import DecoderPool, DecodingStopped, TurnOver
from auris.audio.remote import Cancelled, WebLimits, fetched, is_url
from auris.errors import DecoderCrashed
from auris.server.errors import ApiError, ClientDisconnected, invalid, unsupported
from auris.server.middleware import client_of
from auris.server.pools import Lane, unless_disconnected
from auris.server.settings import Settings
from auris.server.tracing import span
from auris.server.upload import SpoolBudget
from auris.types import SAMPLE_RATE, Samples, Waveform

if TYPE_CHECKING:
    from auris.server.state import Server

T = TypeVar("T")

IN_MEMORY_SECONDS = 60.0
"""Longest recording whose samples stay in memory: 3.8 MB."""

TOO_LONG = "audio_too_long"
"""Code of the error of a recording that is longer than the limit."""

NEVER = threading.Event()
"""For decoding that is not cancelled."""


@dataclass(frozen=True)
class DecodeContext:
    """The processes that decode a recording, and the limits of its size and of computing time."""

    decoders: DecoderPool
    settings: Settings
    budget: SpoolBudget
    cancelled: Cancelled = NEVER
    turn_seconds: float = float("inf")


@dataclass(frozen=True)
class Recording:
    """A recording that can be transcribed: its samples or a WAV file of them, the number of its
    samples at 16 kHz, of each channel, and how many channels the file has."""

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
    """Check the header of a file; returns how many channels it has.

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
        apart: whether every channel of a file with several is transcribed by itself.
        context: the decoder, and the limits.
        files: closes the temporary file of the samples, and returns its bytes to the budget.

    Raises:
        AudioError: it cannot be read to its end, or crashed the decoder twice.
        ApiError: it is beyond the limits, or there is no room for its samples.
        ClientDisconnected, TurnOver: see `checked`.
    """
    channels = checked(file, context)
    apart = apart and channels > 1
    most_samples = context.settings.most_audio_seconds * SAMPLE_RATE

    def decode() -> Recording:
        with ExitStack() as stack:
            store = _SampleStore(stack, context.budget, in_memory=not apart)
            for block in context.decoders.stream(
                file, "split" if apart else "mix", context.cancelled, context.turn_seconds
            ):
                store.add(block)
                if store.samples > most_samples:
                    raise _too_long(context.settings)
            files.push(stack.pop_all())
        if context.cancelled.is_set():
            files.close()  # The caller has given up, and may have closed them before.
            raise DecodingStopped
        return Recording(store.source(), store.samples, channels)

    return _decode(decode)


async def decode_in_lanes(
    request: Request, file: IO[bytes], work: Callable[[DecodeContext], T]
) -> T:
    """Decode the recording of a request, in the first lane whose computing time is enough.

    Raises:
        ApiError: too many others wait.
        ClientDisconnected: the client has disconnected.
    """
    server: Server = request.app.state.server
    size = file.seek(0, os.SEEK_END)
    client = client_of(request)

    def in_lane(lane: Lane) -> Awaitable[T]:
        cancelled = threading.Event()
        context = DecodeContext(
            server.decoders, server.settings, server.spool, cancelled, lane.turn_seconds
        )
        done = lane.submit(lambda: work(context), client, size)
        return unless_disconnected(request.receive, done, cancelled.set)

    *limited, last = server.pools.decoding
    with span("decode", bytes=size):
        for lane in limited:
            with suppress(TurnOver):
                return await in_lane(lane)
        return await in_lane(last)


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
        """Add float32 [C, n]; an `ApiError` where there is no room for them, now or at all."""
        if self._bytes + block.nbytes > self._budget.most_bytes:
            raise ApiError(
                413,
                f"Decoded, the recording takes more than {self._budget.most_bytes >> 20} MB, the "
                "most that this server stores: send it in parts, or with fewer channels.",
                param="file",
                code="audio_too_large",
            )
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
        return self._file or Waveform(np.concatenate(self._blocks, axis=1)[0])


async def opened(
    request: Request, url: str | None, upload: UploadFile | None, stack: AsyncExitStack
) -> IO[bytes]:
    """The recording of a request, sent with it or downloaded from the public web.

    Raises:
        AudioError: it cannot be downloaded.
        ApiError: the server does not download recordings, or this is no address.
        ClientDisconnected: the client disconnected before.
    """
    if upload is not None:
        return upload.file
    server: Server = request.app.state.server
    if not server.settings.urls:
        raise unsupported("url", "this server does not fetch recordings")
    if url is None or not is_url(url):
        raise invalid("url", "it has to be http or https")
    limits = WebLimits(server.settings.most_upload_bytes, total_seconds=600.0, public_only=True)
    files, cancelled = stack.enter_context(ExitStack()), threading.Event()
    fetching = server.pools.fetch.submit(
        lambda: fetched(url, "the recording at 'url'", limits, files, cancelled),
        client_of(request),
    )
    return await unless_disconnected(request.receive, fetching, cancelled.set)


def _too_long(settings: Settings) -> ApiError:
    most = settings.most_audio_seconds
    message = f"The recording is longer than {most:g} s, the most that this server takes."
    return ApiError(413, message, param="file", code=TOO_LONG)
