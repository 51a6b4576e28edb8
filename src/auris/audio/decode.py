"""Files to pieces of samples: containers, codecs, holes in time, and what is missing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import NamedTuple, NoReturn, TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from auris.audio.container_durations import ends_inside_block
from auris.audio.declared_duration import (
    MP4,
    TOLERANCE,
    WEBM,
    DeclaredDuration,
    declared_duration,
    ends_inside_data,
    ends_inside_page,
)
from auris.audio.formats import OPEN_OPTIONS
from auris.audio.frames import FrameReader, check_channels, forget_places
from auris.audio.mp4_tables import check_tables
from auris.audio.packets import Outcomes, decoded_packets
from auris.audio.reader import Reader, open_file, reason, unreadable
from auris.audio.remote import WebLimits
from auris.audio.resample import BrokenOffError, TimedSamples, TimeSpan, check_rate, skip
from auris.errors import AurisError, UsageError
from auris.types import SAMPLE_RATE

__all__ = ["Header", "decoded", "header"]

_BLOCKS_PER_SECOND = 4  # Decoded frames are gathered into blocks before they are processed.
_MAX_HOLE = 600.0  # Longest hole in a container's clock that is believed, in seconds.
_TIMED = {MP4, WEBM, "mpegts", "flv", "asf"}  # A jump in time is a pause or a gap in capture.
_NUMBERED = {"ogg", "flac"}  # A jump in time is a loss.
_SEEKABLE = {"wav", "flac"}  # Landing is exact, and decoding does not depend on what came before.
_LOG = logging.getLogger(__name__)

Warn: TypeAlias = "Callable[[str], None]"
"""What is called with a sentence that the caller should know."""


class Header(NamedTuple):
    """What a file says of itself; it need not be true.

    Attributes:
        rate: in Hz.
        channels: how many there are.
        seconds: how long it is; None where it does not say.
        guess: how long ffmpeg takes it to be, which may be wrong; None where it cannot say.
    """

    rate: int
    channels: int
    seconds: float | None
    guess: float | None = None


def header(source: object, name: str, urls: WebLimits | None) -> Header:
    """What a file says of itself, without decoding it.

    Raises:
        UnreadableAudio: it is no audio file.
        InvalidSamples: its rate is impossible.
    """
    with ExitStack() as stack:
        container, track, reader = _opened(source, name, urls, stack)
        try:
            claim = declared_duration(container, track, reader)
            channels: int = track.channels
        except Exception as error:  # PyAV raises many kinds; all of them mean damage here.
            unreadable(
                "The header of an audio file has to be readable",
                f"that of {name} is not ({reason(error)})",
                "get or encode the file anew",
            )
        return Header(
            check_rate(track.rate),
            check_channels(channels) if channels else 0,
            claim.seconds,
            None if container.duration is None else container.duration / av.time_base,
        )


def decoded(
    source: object,
    span: TimeSpan,
    name: str,
    urls: WebLimits | None,
    track: int | None = None,
    warn: Warn = _LOG.warning,
) -> Generator[TimedSamples, None, None]:
    """Decode a file; the pieces begin no later than the span demands.

    Args:
        source, name: the file, and what messages call it.
        span: what is wanted of it.
        urls: what fetching may cost.
        track: number of the sound track, from 1; None for the container's default.
        warn: called with what the caller should know.
    """
    with ExitStack() as stack:
        container, stream, reader = _opened(source, name, urls, stack, track, warn)
        yield from _gathered(_guarded(_timeline(container, stream, reader, span, name, warn)))


def _guarded(pieces: Iterator[TimedSamples]) -> Iterator[TimedSamples]:
    """The pieces; whatever else PyAV or its codecs raise is damage of this recording."""
    try:
        yield from pieces
    except (AurisError, BrokenOffError):
        raise
    except Exception as error:  # PyAV raises many kinds, ValueError and MemoryError among them.
        raise BrokenOffError(reason(error)) from error


def _opened(
    source: object,
    name: str,
    urls: WebLimits | None,
    stack: ExitStack,
    track: int | None = None,
    warn: Warn = lambda text: None,
) -> tuple[InputContainer, AudioStream, Reader]:
    try:
        reader = Reader(open_file(source, name, stack, urls), stack)
        check_tables(reader, name)
        container = stack.enter_context(_open_container(reader, name))
        found = _track(container, name, track, warn)
    except AurisError:
        raise
    except Exception as error:  # Whatever a file object of the caller's, or PyAV, raises.
        unreadable(
            "An audio source has to be readable",
            f"reading {name} failed ({reason(error)})",
            "check the source",
        )
    return container, found, reader


def _open_container(reader: Reader, name: str) -> InputContainer:
    try:
        container: InputContainer = av.open(
            *(reader, "r"),
            container_options=OPEN_OPTIONS,
            metadata_errors="replace",
            io_open=_refuse,
        )
        return container
    except Exception as error:  # PyAV raises many kinds; all of them mean the same here.
        reader.check_interrupted()
        if reader.failure is not None:
            raise reader.failure from None
        if isinstance(error, AurisError):
            raise
        found = "is empty" if reader.peek(0, 1) == b"" else f"is not ({reason(error)})"
        unreadable(
            "A recording has to be an audio or video file in a format that is read",
            f"{name} {found}",
            "check that it is whole, and no playlist or text",
        )


def _refuse(*_: object) -> NoReturn:
    unreadable(
        "An audio source has to contain its audio",
        "it is a playlist that points elsewhere",
        "pass the audio file itself",
    )


def _track(container: InputContainer, name: str, wanted: int | None, warn: Warn) -> AudioStream:
    """The sound track that is read, the first being number 1."""
    tracks = list(container.streams.audio)
    if not tracks:
        kinds = sorted({stream.type for stream in container.streams})
        unreadable(
            "An audio file has to contain sound",
            f"{name} has none (only {' and '.join(kinds) or 'an empty container'})",
            "pass a file with a sound track",
        )
    best = container.streams.best("audio")
    number = wanted or (tracks.index(best) + 1 if best in tracks else 1)
    if number > len(tracks):
        raise UsageError(
            f"--track has to be one of the {len(tracks)} sound tracks of {name}",
            f"it is {number}",
            f"choose one of: {_listed(tracks)}",
        )
    if wanted is None and len(tracks) > 1:
        warn(
            f"{name} has {len(tracks)} sound tracks ({_listed(tracks)}); number {number} is read: "
            "choose another with --track"
        )
    track = tracks[number - 1]
    if track.codec_context is None:
        unreadable(
            "The sound has to be in a codec that ffmpeg can decode",
            f"that of {name} is unknown or encrypted",
            "convert the file, for instance to FLAC",
        )
    forget_places(track)
    if track.codec_context.name == "flac":
        track.codec_context.options = {
            "err_detect": "crccheck+explode"
        }  # Else a flipped bit is noise.
    return track


def _listed(tracks: list[AudioStream]) -> str:
    """The tracks with what the container says of them."""
    shown = []
    for number, track in enumerate(tracks, 1):
        told = (track.metadata.get("title"), track.metadata.get("language"))
        about = " ".join(" ".join(str(text).split())[:60] for text in told if text)
        shown.append(f"{number} {about}".strip())
    return ", ".join(shown)


def _timeline(
    container: InputContainer,
    track: AudioStream,
    reader: Reader,
    span: TimeSpan,
    name: str,
    warn: Warn,
) -> Iterator[TimedSamples]:
    """Decode a track, fill holes in its time, and check that it is all there."""
    claim = declared_duration(container, track, reader)
    outcomes, at = _positioned(container, track, reader, span, claim)
    begin = container.start_time
    clock = None if begin is None or at else begin / av.time_base
    done = 0.0
    trouble: str | None = None
    frames = FrameReader()
    for outcome in outcomes:
        reader.check_interrupted()
        if isinstance(outcome, Exception):
            # Tags and padding after the end are no loss, unless sound follows them.
            trouble = reason(outcome)
            if not claim.met(done, unknown=False):
                raise BrokenOffError(trouble, claim.seconds)
            continue
        for frame in outcome:
            if trouble is not None:
                raise BrokenOffError(trouble, claim.seconds)
            # ffmpeg notes a change of rate one MP3 frame late, but knows it after decoding.
            teller = track.codec_context if container.format.name == "mp3" else frame
            samples = frames.samples(frame)
            if not samples:
                continue
            piece = TimedSamples(
                np.concatenate(samples, axis=1), check_rate(teller.sample_rate), at
            )
            now = _frame_time(frame)
            if now is not None and clock is not None and now - clock > TOLERANCE:
                for silence in _hole(container, piece, now - clock, done, claim, name, warn):
                    done += silence.samples.shape[1] / silence.rate
                    yield silence
            yield piece
            seconds = piece.samples.shape[1] / piece.rate
            done += at / piece.rate + seconds
            at = 0
            before = now if now is not None else clock
            clock = None if before is None else before + seconds
    reader.check_interrupted()
    if reader.failure is not None:
        raise BrokenOffError(reason(reader.failure), claim.seconds)
    if container.format.name == "ogg" and ends_inside_page(reader):
        raise BrokenOffError("the file breaks off")
    if container.format.name == "wav" and claim.seconds is None and ends_inside_data(reader):
        raise BrokenOffError("the file breaks off")
    if container.format.name == "voc" and ends_inside_block(reader):
        raise BrokenOffError("the file breaks off")
    if not claim.met(done, unknown=True):
        raise BrokenOffError("the file breaks off", claim.seconds)


def _positioned(
    container: InputContainer,
    track: AudioStream,
    reader: Reader,
    span: TimeSpan,
    claim: DeclaredDuration,
) -> tuple[Outcomes, int]:
    """Go near the span's beginning where that is exact and saves work.

    Returns:
        What follows, and where it lies, in samples of the source.
    """
    rate = track.rate
    if (
        container.format.name in _SEEKABLE
        and track.codec_context.name.startswith(("pcm_", "flac"))
        and reader.seekable()
        and not track.start_time
        and track.time_base is not None
        and claim.seconds is not None
        and span.first / SAMPLE_RATE < claim.seconds
    ):
        target = skip(span.first, check_rate(rate))[0]
        if target > 10 * rate:
            try:
                container.seek(int(target / rate / track.time_base), stream=track)
                outcomes = decoded_packets(container, track)
                first = next(outcomes, None)
                now = _frame_time(first[0]) if isinstance(first, list) and first else None
                at = -1 if now is None else round(now * rate)
                if 0 <= at <= target and first is not None:
                    return itertools.chain([first], outcomes), at
            except av.FFmpegError as error:
                _LOG.debug("seeking failed: %s", error)
            try:
                container.seek(0, stream=track)  # It went astray: decode from the beginning.
            except Exception as error:
                raise BrokenOffError(reason(error), claim.seconds) from error
    return decoded_packets(container, track), 0


def _frame_time(frame: AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _hole(
    container: InputContainer,
    after: TimedSamples,
    seconds: float,
    done: float,
    claim: DeclaredDuration,
    name: str,
    warn: Warn,
) -> Iterator[TimedSamples]:
    """Silence for a jump in time before `after`, where such a jump may be meant."""
    kind = container.format.name
    if kind in _NUMBERED or (kind in _TIMED and seconds > _MAX_HOLE):
        raise BrokenOffError(f"{seconds:.2f} seconds are missing there", claim.seconds)
    if kind in _TIMED:
        warn(
            f"{name} has no sound for {seconds:.2f} s from {done:.2f} s on; silence takes its place"
        )
        missing = round(seconds * after.rate)
        for begin in range(0, missing, after.rate):
            length = min(after.rate, missing - begin)
            yield TimedSamples(np.zeros((len(after.samples), length), np.float32), after.rate)


def _gathered(pieces: Iterator[TimedSamples]) -> Generator[TimedSamples, None, None]:
    """Join small pieces, so that the cost of each step counts little."""
    held: list[TimedSamples] = []
    length = 0
    try:
        for piece in pieces:
            rows = len(piece.samples)
            if held and (held[0].rate, len(held[0].samples)) != (piece.rate, rows):
                yield _joined(held)
                held, length = [], 0
            held.append(piece)
            length += piece.samples.shape[1]
            if length * _BLOCKS_PER_SECOND >= piece.rate:
                yield _joined(held)
                held, length = [], 0
    except (BrokenOffError, AurisError):
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _joined(pieces: list[TimedSamples]) -> TimedSamples:
    return pieces[0]._replace(samples=np.concatenate([piece.samples for piece in pieces], axis=1))
