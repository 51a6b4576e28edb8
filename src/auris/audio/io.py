"""Recordings of every kind to 16 kHz mono float32.

`stream` is the primitive: it decodes, mixes, resamples and trims block by block, so that a long
recording is never in memory twice. `load` and `load_channels` collect its blocks.

Nothing is lost silently: a recording that breaks off or is damaged before the end of the requested
span is an error that says how much of it can be read. Holes in the clock of a container (video,
WebM) are filled with silence, so that later times stay true, and a warning is logged.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Literal, TypeAlias, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from auris.audio.arrays import array_blocks
from auris.audio.decode import Header, Warn, decoded, header
from auris.audio.encoded import is_data_uri
from auris.audio.reader import reason
from auris.audio.remote import WebLimits, is_url, shown_url
from auris.audio.resample import BrokenOffError, SpanRenderer, TimedSamples, TimeSpan
from auris.errors import AurisError, EmptyAudio, UnreadableAudio, UsageError
from auris.types import SAMPLE_RATE, Samples, Waveform

Channels = Literal["mix", "split"]
"""Average the channels into one, or read them separately."""

Source: TypeAlias = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    IO[bytes],
    Waveform,
    "Excerpt",
    "tuple[NDArray[Any], float]",
]
"""What can be loaded: a path, an http or https address, a data URI, "-" for standard input, the
bytes of an encoded file, a binary file object (read from its present position), a Waveform, an
Excerpt, or (array, rate in Hz). Only strings are addresses or data URIs; "./" before one makes it a
path.

An array is float16/32/64 (taken as it is), int16, int32 or uint8 (scaled to -1..1), of shape [S],
[S, C] or [C, S]: the shorter axis is the channels, so a square array is refused. Of several sound
tracks the container's default one is read; `stream` can read another."""


@dataclass(frozen=True)
class Excerpt:
    """A recording that is opened when it is read, or a part of one. Its times begin at 0.

    Attributes:
        source: the recording, or a function that opens it as a binary file.
        start, duration: the part, in seconds of the recording.
        channel: index of the only channel to read; None for all.
        portable: whether another process can open it, too.
    """

    source: Source | Callable[[], IO[bytes]]
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    portable: bool = True


SourceT = TypeVar("SourceT", bound=Source)

Sources: TypeAlias = Union["list[SourceT]", "tuple[str | os.PathLike[str] | bytes, ...]"]
"""Several recordings: a list of any sources, or a tuple of paths, addresses or bytes."""

_LOG = logging.getLogger(__name__)

ENDLESS = 1e9
"""Seconds that no recording has: a number of them is a slip."""

WEB = WebLimits()
"""Default limits of downloads."""


def is_several(audio: object) -> bool:
    """Whether a value is `Sources`: a pair of paths is no (array, rate)."""
    if isinstance(audio, tuple):
        return all(isinstance(one, (str, os.PathLike, bytes)) for one in audio)
    return isinstance(audio, list)


def load(
    source: Source,
    *,
    start: float = 0.0,
    duration: float | None = None,
    urls: WebLimits | None = WEB,
) -> Waveform:
    """Load a recording as 16 kHz mono, its channels averaged.

    Args:
        source: see `Source`.
        start: first second to load, rounded to the nearest sample at 16 kHz.
        duration: seconds to load at most; None loads to the end.
        urls: limits of downloads; None refuses addresses, as servers should.

    Raises:
        UsageError: the source is of no known kind or refused, or start or duration is impossible.
        UnreadableAudio: the source is missing, is not audio, or is damaged before the span's end.
        EmptyAudio: the span holds no sample.
        InvalidSamples: samples are NaN or infinite, or the array or its rate is impossible.
    """
    (samples,) = _collect(stream(source, start=start, duration=duration, urls=urls))
    return Waveform(samples, start=float(start))


def load_channels(
    source: Source,
    *,
    start: float = 0.0,
    duration: float | None = None,
    urls: WebLimits | None = WEB,
) -> tuple[Waveform, ...]:
    """Load every channel of a recording as a waveform of its own; otherwise like `load`."""
    rows = _collect(stream(source, start=start, duration=duration, channels="split", urls=urls))
    return tuple(
        Waveform(samples, start=float(start), channel=index) for index, samples in enumerate(rows)
    )


def look(file: IO[bytes]) -> Header:
    """Read the header of an encoded file, without decoding it.

    Args:
        file: read from its present position, and left at another.

    Raises:
        UnreadableAudio: it is no audio file.
        InvalidSamples: its rate is impossible.
    """
    return header(file, _name(file), None)


def stream(
    source: Source,
    *,
    start: float = 0.0,
    duration: float | None = None,
    channels: Channels = "mix",
    urls: WebLimits | None = WEB,
    track: int | None = None,
    allow_damaged: bool = False,
    warn: Warn = _LOG.warning,
) -> Iterator[Samples]:
    """Yield a recording as 16 kHz float32 blocks [C, n] with n > 0; C is 1 when mixed.

    Arguments and errors are those of `load`. Wrong arguments fail at once, a bad recording at
    the block that it concerns.

    Args:
        source, start, duration, urls: see `load`.
        channels: whether they are averaged or yielded separately.
        track: number of the sound track, from 1; None for the one that the container prefers.
        allow_damaged: yield what can be read of a damaged recording, and warn, instead of failing.
        warn: called with sentences about the recording; by default they are logged.
    """
    if track is not None and (not isinstance(track, int) or track < 1):
        raise UsageError(
            "--track has to be a number from 1 on", f"it is {track!r}", "count the sound tracks"
        )
    if channels not in ("mix", "split"):
        raise UsageError(
            "channels has to be 'mix' or 'split'", f"it is {channels!r}", "choose one of the two"
        )
    if urls is not None and not isinstance(urls, WebLimits):
        raise UsageError(
            "urls has to be a WebLimits or None", f"it is {urls!r}", "pass None to refuse addresses"
        )
    span = _span(start, duration)
    if isinstance(source, Excerpt):
        read = partial(stream, urls=urls, track=track, allow_damaged=allow_damaged, warn=warn)
        return _excerpt_blocks(source, start, duration, channels, read)
    if isinstance(source, Waveform):
        source = (source.samples, SAMPLE_RATE)
    name = _name(source)
    renderer = SpanRenderer(span, name, channels == "mix")
    if isinstance(source, tuple):
        return _blocks(array_blocks(*source), renderer, None)
    blocks = decoded(source, span, name, urls, track, warn)
    return _blocks(blocks, renderer, warn if allow_damaged else None)


def _excerpt_blocks(
    excerpt: Excerpt,
    start: float,
    duration: float | None,
    channels: Channels,
    read: Callable[..., Iterator[Samples]],
) -> Iterator[Samples]:
    """As `stream`, with a span and channels of the excerpt; `read` is `stream` with the options
    that an excerpt does not change."""
    span = _span(excerpt.start, excerpt.duration)  # Refuses impossible numbers.
    if span.end is not None:
        left = (excerpt.duration or 0.0) - start
        if left <= 0:
            raise EmptyAudio(
                "The span holds no sample",
                f"it begins at {start:g} s of an excerpt of {excerpt.duration:g} s",
                "choose an earlier start",
            )
        duration = left if duration is None else min(duration, left)
    channel = excerpt.channel
    with ExitStack() as stack:
        for block in read(
            _opened(excerpt.source, stack),
            start=excerpt.start + start,
            duration=duration,
            channels=channels if channel is None else "split",
        ):
            if channel is None:
                yield block
                continue
            if channel >= len(block):
                raise UnreadableAudio(
                    "The channel of an excerpt has to exist",
                    f"channel {channel} is chosen of {len(block)}, counted from 0",
                    "correct the channel",
                )
            yield block[channel : channel + 1]


def _opened(source: Source | Callable[[], IO[bytes]], stack: ExitStack) -> Source:
    """The source, opened if it is a function; closed with `stack`."""
    if not callable(source):
        return source
    try:
        return stack.enter_context(source())
    except AurisError:
        raise
    except FileNotFoundError as error:
        raise UnreadableAudio(
            "An audio file has to exist", "there is none at this address", "check the address"
        ) from error
    except Exception as error:  # A function of the caller may raise any error.
        raise UnreadableAudio(
            "The recording cannot be opened",
            f"opening it failed ({reason(error)})",
            "check its path and its permissions",
        ) from error


def _blocks(
    blocks: Generator[TimedSamples, None, None], renderer: SpanRenderer, damage: Warn | None
) -> Iterator[Samples]:
    try:
        for block in blocks:
            yield from renderer.push(block)
            if renderer.done:
                break
    except BrokenOffError as error:
        renderer.break_off(error)
    finally:
        blocks.close()  # Frees the file now also when the reader stops early.
    yield from renderer.finish(damage)


def _collect(blocks: Iterator[Samples]) -> list[Samples]:
    """Join blocks [C, n] into C arrays, growing in place so that no second copy exists."""
    rows: list[Samples] = []
    used = 0
    for block in blocks:
        rows = rows or [np.empty(0, np.float32) for _ in block]
        needed = used + block.shape[1]
        for row, samples in zip(rows, block, strict=True):
            if needed > len(row):
                # An eighth at a time: few moves, little that is never used.
                row.resize(needed + needed // 8, refcheck=False)
            row[used:needed] = samples
        used = needed
    for row in rows:
        row.resize(used, refcheck=False)
    return rows


def _span(start: object, duration: object) -> TimeSpan:
    first = _seconds("start", start)
    end = None if duration is None else first + _seconds("duration", duration)
    # Both ends are rounded alike, so that spans that follow each other leave no gap.
    return TimeSpan(_nearest(first), None if end is None else _nearest(end))


def _nearest(seconds: float) -> int:
    return math.floor(seconds * SAMPLE_RATE + 0.5)


def _seconds(option: str, value: object) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        seconds = float(value)
        if (option == "start" and seconds == 0.0) or 0.0 < seconds < ENDLESS:
            return seconds
    least = "0 or more" if option == "start" else "more than 0"
    raise UsageError(
        f"{option} has to be a number of seconds, {least} and less than {ENDLESS:,.0f}",
        f"it is {value!r}",
        "count from the beginning of the source, or leave the option out",
    )


def _name(source: object) -> str:
    """What messages call the source."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if isinstance(path, str) and is_data_uri(path):
            return "the data URI"
        if isinstance(path, str) and is_url(path):
            return repr(shown_url(path))
        return "standard input" if path == "-" else repr(path)
    if isinstance(source, tuple) and len(source) == 2 and not is_several(source):
        return "the array"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given data"
    if hasattr(source, "read"):
        return "the given file"
    raise UsageError(
        "An audio source has to be a path, an address, '-', bytes, a binary file or (array, rate)",
        f"its type is {type(source).__name__}",
        "pass one of these",
    )
