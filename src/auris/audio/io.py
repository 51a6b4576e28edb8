"""Recordings of every kind to 16 kHz mono float32.

`stream` is the primitive: it decodes, mixes, resamples and trims block by block, so that a long
recording is never held twice. `load` and `load_channels` collect its blocks.

Nothing is lost silently: a recording that breaks off or is damaged before the end of the asked
span is an error that says how much of it can be read. Where a container keeps time (video, WebM)
and has a hole in it, silence takes its place, so that later times stay true, and a warning is
logged.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import IO, Any, Literal, NamedTuple, NoReturn, TypeAlias, Union, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from auris.audio.resample import BrokenOffError, Piece, Span, check_rate, render, skip
from auris.errors import AurisError, EmptyAudio, InvalidSamples, UnreadableAudio, UsageError
from auris.types import SAMPLE_RATE, Samples, Waveform

__all__ = ["Channels", "Source", "load", "load_channels", "stream"]

Channels = Literal["mix", "split"]
"""Average the channels into one, or keep them apart."""

Source: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "tuple[NDArray[Any], float]"
]
"""What can be loaded: a path, "-" for standard input, the bytes of an encoded file, a binary file
object (read from its present position), or (array, rate in Hz).

An array is float16/32/64 (taken as it is), int16, int32 or uint8 (scaled to -1..1), of shape [S],
[S, C] or [C, S]: the shorter axis is the channels, so a square array is refused. Of several sound
tracks the container's default one is taken."""

MAX_CHANNELS = 64
"""Most channels that an array may have; more is a mistaken axis."""

_BLOCKS_PER_SECOND = 4  # Decoded frames are gathered into blocks before they are processed.
_TOLERANCE = 0.1  # Seconds by which a clock may differ from the samples: codecs pad and delay.
_WAV_TOLERANCE = 0.01  # Some writers count header bytes as sound.
_MAX_HOLE = 600.0  # Longest hole in a container's clock that is believed, in seconds.
_MP3_PADDING = 3000  # Most samples that an MP3 encoder adds at both ends together.
_PEEKED = 1 << 20  # How much of a pipe's beginning is kept, for reading its header again.
_OGG_PAGE = 1 << 16  # An Ogg page is a little shorter.

_MP4, _WEBM = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_TIMED = {_MP4, _WEBM, "mpegts", "flv", "asf"}  # A jump in time is a pause or a gap in capture.
_NUMBERED = {"ogg", "flac"}  # A jump in time is a loss.
_EXACT = {"flac", "ogg", "aiff", "au", _MP4}  # Their headers (Ogg: last page) count samples.
_SEEKABLE = {"wav", "flac"}  # Landing is exact, and decoding does not depend on what came before.
_LOG = logging.getLogger(__name__)


def load(source: Source, *, start: float = 0.0, duration: float | None = None) -> Waveform:
    """Load a recording as 16 kHz mono, its channels averaged.

    Args:
        source: see `Source`.
        start: first second to load, rounded to the nearest sample at 16 kHz.
        duration: seconds to load at most; None loads to the end.

    Raises:
        UsageError: the source is of no known kind, or start or duration is impossible.
        UnreadableAudio: the source is missing, is not audio, or is damaged before the span's end.
        EmptyAudio: the span holds no sample.
        InvalidSamples: samples are NaN or infinite, or the array or its rate is impossible.
    """
    (samples,) = _collect(stream(source, start=start, duration=duration))
    return Waveform(samples, start=float(start))


def load_channels(
    source: Source, *, start: float = 0.0, duration: float | None = None
) -> tuple[Waveform, ...]:
    """Load every channel of a recording as a waveform of its own; otherwise like `load`."""
    rows = _collect(stream(source, start=start, duration=duration, channels="split"))
    return tuple(
        Waveform(samples, start=float(start), channel=index) for index, samples in enumerate(rows)
    )


def stream(
    source: Source,
    *,
    start: float = 0.0,
    duration: float | None = None,
    channels: Channels = "mix",
) -> Iterator[Samples]:
    """Yield a recording as 16 kHz float32 blocks [C, n] with n > 0; C is 1 when mixed.

    Arguments and errors are those of `load`. Wrong arguments fail at once, a bad recording when
    the block that it concerns is asked for.
    """
    if channels not in ("mix", "split"):
        raise UsageError(
            "channels has to be 'mix' or 'split'", f"it is {channels!r}", "choose one of the two"
        )
    span = _span(start, duration)
    name = _name(source)
    return _blocks(source, span, name, channels == "mix")


def _blocks(source: Source, span: Span, name: str, mix: bool) -> Generator[Samples, None, None]:
    pieces = _array(*source) if isinstance(source, tuple) else _decoded(source, span, name)
    made, reached = yield from render(pieces, span, name, mix)
    if made == 0:
        raise _empty(reached, span, name)


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


def _span(start: object, duration: object) -> Span:
    first = _seconds("start", start)
    end = None if duration is None else first + _seconds("duration", duration)
    # Both ends are rounded alike, so that spans that follow each other leave no gap.
    return Span(_nearest(first), None if end is None else _nearest(end))


def _nearest(seconds: float) -> int:
    return math.floor(seconds * SAMPLE_RATE + 0.5)


def _seconds(option: str, value: object) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        seconds = float(value)
        if (option == "start" and seconds == 0.0) or 0.0 < seconds < 1e9:
            return seconds
    least = "0 or more" if option == "start" else "more than 0"
    raise UsageError(
        f"{option} has to be a number of seconds, {least}",
        f"it is {value!r}",
        "count from the beginning of the source, or leave the option out",
    )


def _name(source: object) -> str:
    """What messages call the source."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return "standard input" if path == "-" else repr(path)
    if isinstance(source, tuple) and len(source) == 2:
        return "the array"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given data"
    if hasattr(source, "read"):
        return "the file object"
    raise UsageError(
        "An audio source has to be a path, '-', bytes, a binary file object or (array, rate)",
        f"its type is {type(source).__name__}",
        "pass one of these",
    )


def _empty(reached: int, span: Span, name: str) -> EmptyAudio:
    if reached == 0:
        return EmptyAudio(
            "A recording has to hold at least one sample",
            f"{name} holds none",
            "check that the recording worked",
        )
    if span.first >= reached:
        return EmptyAudio(
            "start has to lie inside the recording",
            f"start is {span.first / SAMPLE_RATE:.2f} s and {name} ends at "
            f"{reached / SAMPLE_RATE:.2f} s",
            "choose an earlier start",
        )
    return EmptyAudio(
        "The asked span has to hold at least one sample at 16 kHz",
        "its duration is shorter than that",
        "choose a longer duration",
    )


# Arrays ------------------------------------------------------------------------------------------


def _array(array: object, rate: object) -> Generator[Piece, None, None]:
    hertz = check_rate(rate)
    rows = _rows(array)
    for at in range(0, rows.shape[1], hertz):
        yield Piece(_as_float(rows[:, at : at + hertz]), hertz)


def _rows(array: object) -> NDArray[Any]:
    """The array as [C, S], not copied."""
    kinds = ("float16", "float32", "float64", "int16", "int32", "uint8")
    if not isinstance(array, np.ndarray) or array.dtype.name not in kinds:
        found = f"a {type(array).__name__}"
        if isinstance(array, np.ndarray):
            found = f"of {array.dtype}"
        raise InvalidSamples(
            f"An audio array has to be a numpy array of {', '.join(kinds[:-1])} or {kinds[-1]}",
            f"it is {found}",
            "convert it, floats with full scale at -1..1",
        )
    if array.ndim == 1:
        return array[np.newaxis]
    if array.ndim == 2 and array.size == 0:
        return array.reshape(1, 0)
    if array.ndim == 2 and (array.shape[0] != array.shape[1] or array.size == 1):
        rows = array if array.shape[0] <= array.shape[1] else array.T
        if len(rows) <= MAX_CHANNELS:
            return rows
    raise InvalidSamples(
        f"An audio array has to be [S], [S, C] or [C, S] with C < S and C at most {MAX_CHANNELS}",
        f"its shape is {list(array.shape)}",
        "pass samples and channels in such a shape",
    )


def _as_float(samples: NDArray[Any]) -> Samples:
    """Any format to float32 with full scale at -1..1; always a copy."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # Refused later on.
            return samples.astype(np.float32, order="C")
    middle = 128 if samples.dtype.kind == "u" else 0
    scale = np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    scaled: Samples = (samples.astype(np.float32) - np.float32(middle)) * scale
    return scaled


# Files -------------------------------------------------------------------------------------------


class _Reader:
    """What PyAV reads from. Only file objects are handed to it, so that a name can never reach
    the network or another file by one of ffmpeg's own protocols."""

    def __init__(self, file: IO[bytes], stack: ExitStack) -> None:
        self.failure: Exception | None = None
        self._file = file
        self._origin = self._position()
        self._pending = b""
        self._head = bytearray()
        if self._origin is None:
            # MP4 keeps its index anywhere, so it is the one common kind that needs seeking.
            while len(self._pending) < 12 and (more := self._checked(file.read(12))):
                self._pending += more
            if self._pending[4:8] == b"ftyp":
                spool = tempfile.SpooledTemporaryFile(max_size=1 << 26)  # noqa: SIM115
                stack.callback(spool.close)
                spool.write(self._pending)
                shutil.copyfileobj(file, spool)
                spool.seek(0)
                self._file, self._origin, self._pending = spool, 0, b""

    def _position(self) -> int | None:
        try:
            seekable = getattr(self._file, "seekable", None)
            if seekable is not None and not seekable():
                return None
            return self._file.seek(self._file.tell())
        except (OSError, ValueError, AttributeError):
            return None

    def _checked(self, data: object) -> bytes:
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        raise UsageError(
            "A file object has to yield bytes",
            f"this one yields {type(data).__name__}",
            "open it in binary mode",
        )

    def seekable(self) -> bool:
        return self._origin is not None

    def read(self, size: int) -> bytes:
        try:
            data = self._pending or self._checked(self._file.read(size))
        except Exception as error:
            self.failure = error  # PyAV loses it where ffmpeg takes a failure for the end.
            raise
        self._pending = b""
        if self._origin is None and len(self._head) < _PEEKED:
            self._head += data
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = self._origin or 0
        return self._file.seek(offset + (origin if whence == io.SEEK_SET else 0), whence) - origin

    def tell(self) -> int:
        return self._file.tell() - (self._origin or 0)

    def peek(self, offset: int, size: int) -> bytes:
        """Bytes at `offset`, from the end if negative, without moving; b"" where unknown."""
        if self._origin is None:
            return bytes(self._head[offset : offset + size]) if offset >= 0 else b""
        try:
            place = self.tell()
            end = self.seek(0, io.SEEK_END)
            self.seek(offset if offset >= 0 else max(0, end + offset))
            data = self._checked(self._file.read(size))
            self.seek(place)
        except Exception as error:
            self.failure = error
            return b""
        return data


def _open_file(source: object, name: str, stack: ExitStack) -> IO[bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        return source  # type: ignore[return-value]
    if os.fspath(source) == "-":
        return _standard_input()
    try:
        return stack.enter_context(open(source, "rb"))
    except FileNotFoundError:
        _unreadable("An audio file has to exist", f"there is no {name}", "check the path")
    except IsADirectoryError:
        _unreadable(
            "An audio source has to be a file", f"{name} is a directory", "name a file inside it"
        )
    except (OSError, ValueError) as error:
        _unreadable(
            "An audio file has to be readable",
            f"{name} cannot be opened ({getattr(error, 'strerror', None) or error})",
            "check the path and its permissions",
        )


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        _unreadable(
            "Standard input has to be open to be read", "it is closed", "pipe audio into it"
        )
    # Something else may stand in for it, and then it is the file object itself.
    return cast("IO[bytes]", getattr(sys.stdin, "buffer", sys.stdin))


def _unreadable(rule: str, found: str, remedy: str) -> NoReturn:
    raise UnreadableAudio(rule, found, remedy) from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _decoded(source: object, span: Span, name: str) -> Generator[Piece, None, None]:
    """Decode a file; the pieces begin no later than the span demands."""
    with ExitStack() as stack:
        try:
            reader = _Reader(_open_file(source, name, stack), stack)
            container = stack.enter_context(_open_container(reader, name))
        except AurisError:
            raise
        except Exception as error:  # Whatever a file object of the caller's raises.
            _unreadable(
                "An audio source has to be readable",
                f"reading {name} failed ({_reason(error)})",
                "check the source",
            )
        track = _track(container, name)
        yield from _gathered(_timeline(container, track, reader, span, name))


def _open_container(reader: _Reader, name: str) -> InputContainer:
    try:
        container: InputContainer = av.open(reader, "r", metadata_errors="replace", io_open=_refuse)
        return container
    except Exception as error:  # PyAV raises many kinds; all of them mean the same here.
        if reader.failure is not None:
            raise reader.failure from None
        if isinstance(error, AurisError):
            raise
        found = "is empty" if reader.peek(0, 1) == b"" else f"is not ({_reason(error)})"
        _unreadable(
            "An audio file has to be in a format that ffmpeg knows",
            f"{name} {found}",
            "check that it is a whole audio or video file",
        )


def _refuse(*_: object) -> NoReturn:
    _unreadable(
        "An audio source has to contain its audio",
        "it is a playlist that points elsewhere",
        "pass the audio file itself",
    )


def _track(container: InputContainer, name: str) -> AudioStream:
    track = container.streams.best("audio")
    if not isinstance(track, AudioStream):
        kinds = sorted({stream.type for stream in container.streams})
        _unreadable(
            "An audio file has to contain sound",
            f"{name} has none (only {' and '.join(kinds) or 'an empty container'})",
            "pass a file with a sound track",
        )
    if track.codec_context is None:
        _unreadable(
            "The sound has to be in a codec that ffmpeg can decode",
            f"that of {name} is unknown or encrypted",
            "convert the file, for instance to FLAC",
        )
    if track.codec_context.name == "flac":
        track.codec_context.options = {
            "err_detect": "crccheck+explode"
        }  # Else a flipped bit is noise.
    return track


def _timeline(
    container: InputContainer, track: AudioStream, reader: _Reader, span: Span, name: str
) -> Iterator[Piece]:
    """Decode a track, fill holes in its time, and check that it is all there."""
    claim = _claim(container, track, reader)
    outcomes, at = _positioned(container, track, reader, span, claim)
    begin = container.start_time
    clock = None if begin is None or at else begin / av.time_base
    done = 0.0
    trouble: str | None = None
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            # Tags and padding after the end are no loss, unless sound follows them.
            trouble = _reason(outcome)
            if not claim.met(done, unknown=False):
                raise BrokenOffError(trouble, claim.seconds)
            continue
        for frame in outcome:
            if trouble is not None:
                raise BrokenOffError(trouble, claim.seconds)
            # ffmpeg notes a change of rate one MP3 frame late, but knows it after decoding.
            teller = track.codec_context if container.format.name == "mp3" else frame
            piece = Piece(_frame_samples(frame), check_rate(teller.sample_rate), at)
            now = _frame_time(frame)
            if now is not None and clock is not None and now - clock > _TOLERANCE:
                for silence in _hole(container, piece, now - clock, done, claim, name):
                    done += silence.samples.shape[1] / silence.rate
                    yield silence
            yield piece
            seconds = piece.samples.shape[1] / piece.rate
            done += at / piece.rate + seconds
            at = 0
            before = now if now is not None else clock
            clock = None if before is None else before + seconds
    if reader.failure is not None:
        raise BrokenOffError(_reason(reader.failure), claim.seconds)
    if container.format.name == "ogg" and _ends_inside_page(reader):
        raise BrokenOffError("the file breaks off")
    if not claim.met(done, unknown=True):
        raise BrokenOffError("the file breaks off", claim.seconds)


_Outcomes: TypeAlias = "Iterator[list[AudioFrame] | Exception]"


def _outcomes(container: InputContainer, track: AudioStream) -> _Outcomes:
    """The frames of each packet, or what went wrong with it."""
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except Exception as error:  # PyAV raises many kinds; all of them mean damage here.
            yield error
            return
        if packet is None:
            return
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
        except Exception as error:
            yield error
        else:
            yield [frame for frame in frames if frame.samples > 0]


def _positioned(
    container: InputContainer,
    track: AudioStream,
    reader: _Reader,
    span: Span,
    claim: _Claim,
) -> tuple[_Outcomes, int]:
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
                outcomes = _outcomes(container, track)
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
                raise BrokenOffError(_reason(error), claim.seconds) from error
    return _outcomes(container, track), 0


def _frame_samples(frame: AudioFrame) -> Samples:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    return _as_float(samples)


def _frame_time(frame: AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _hole(
    container: InputContainer,
    after: Piece,
    seconds: float,
    done: float,
    claim: _Claim,
    name: str,
) -> Iterator[Piece]:
    """Silence for a jump in time before `after`, where such a jump may be meant."""
    kind = container.format.name
    if kind in _NUMBERED or (kind in _TIMED and seconds > _MAX_HOLE):
        raise BrokenOffError(f"{seconds:.2f} seconds are missing there", claim.seconds)
    if kind in _TIMED:
        _LOG.warning(
            "%s has no sound for %.2f s from %.2f s on; silence takes its place",
            *(name, seconds, done),
        )
        missing = round(seconds * after.rate)
        for begin in range(0, missing, after.rate):
            length = min(after.rate, missing - begin)
            yield Piece(np.zeros((len(after.samples), length), np.float32), after.rate)


def _gathered(pieces: Iterator[Piece]) -> Generator[Piece, None, None]:
    """Join small pieces, so that the cost of each step counts little."""
    held: list[Piece] = []
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


def _joined(pieces: list[Piece]) -> Piece:
    return pieces[0]._replace(samples=np.concatenate([piece.samples for piece in pieces], axis=1))


# How long a file claims to be --------------------------------------------------------------------


class _Claim(NamedTuple):
    """How long a file says that it is; None where it does not say, or only roughly."""

    seconds: float | None = None
    tolerance: float = _TOLERANCE

    def met(self, done: float, unknown: bool) -> bool:
        """Whether `done` seconds are all there is; `unknown` if that cannot be told."""
        return unknown if self.seconds is None else done > self.seconds - self.tolerance


def _claim(container: InputContainer, track: AudioStream, reader: _Reader) -> _Claim:
    """The claim of a file's header.

    ffmpeg's own durations are not enough: for WAV and MP3 they may be guessed from the file's
    size, so that a file that breaks off would look whole.
    """
    kind = container.format.name
    if not track.rate:
        return _Claim()
    if kind == "wav":
        return _Claim(_wav_seconds(track, reader), _WAV_TOLERANCE)
    if kind == "mp3":
        return _Claim(_mp3_seconds(track, reader), _TOLERANCE + _MP3_PADDING / track.rate)
    if kind == _WEBM:
        # Only the longest track's length is known.
        if container.duration is None or len(container.streams) > 1:
            return _Claim()
        return _Claim((container.duration - (container.start_time or 0)) / av.time_base)
    if kind in _EXACT and track.duration and track.time_base:
        exact = 0.5 / track.rate if kind == "flac" else _TOLERANCE
        return _Claim(float(track.duration * track.time_base), exact)
    return _Claim()


def _wav_seconds(track: AudioStream, reader: _Reader) -> float | None:
    if not track.codec_context.name.startswith("pcm_"):
        return None
    place, block, long_size = 12, 0, None
    for _ in range(1000):
        name, size = reader.peek(place, 4), reader.peek(place + 4, 4)
        if len(size) < 4:
            return None
        (length,) = struct.unpack("<I", size)
        if name == b"data":
            if length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            # A writer that could not go back leaves 0 or one of the two largest sizes.
            elif length == 0 or length >= 0xFFFF0000 or abs(length - 0x7FFF8000) <= 0x8000:
                return None
            return length / block / track.rate if block else None
        if name == b"fmt ":
            block = int.from_bytes(reader.peek(place + 20, 2), "little")
        elif name == b"ds64":
            long_size = int.from_bytes(reader.peek(place + 16, 8), "little")
        place += 8 + length + length % 2
    return None


def _mp3_seconds(track: AudioStream, reader: _Reader) -> float | None:
    """From the count of frames in the Xing or Info header, if there is one."""
    tag = reader.peek(0, 10)
    begin = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        for byte in tag[6:]:
            begin = begin << 7 | byte & 0x7F
        begin += 10
    head = reader.peek(begin, 4096)
    for mark in (b"Xing", b"Info"):
        place = head.find(mark)
        if place >= 0 and len(head) >= place + 12 and head[place + 7] & 1:
            frames = int.from_bytes(head[place + 8 : place + 12], "big")
            return frames * (1152 if track.rate >= 32_000 else 576) / track.rate
    return None


def _ends_inside_page(reader: _Reader) -> bool:
    """Whether the last page of an Ogg file is not whole."""
    tail = reader.peek(-2 * _OGG_PAGE, 2 * _OGG_PAGE)
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if not page.startswith(b"OggS"):
        return False
    header = 27 + (page[26] if len(page) > 26 else 0)
    return len(page) < header + sum(page[27:header]) or len(page) < header
