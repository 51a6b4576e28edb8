"""The duration that a file declares, with which a file that breaks off is noticed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from auris.audio.mp4_tables import MOST_BOXES, boxes
from auris.audio.reader import Reader

TOLERANCE = 0.1
"""Seconds by which a clock may differ from the samples: codecs pad and delay."""

MP4, WEBM = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
"""ffmpeg's names of two families of containers."""

_WAV_TOLERANCE = 0.01  # Some writers count header bytes as sound.
_MP3_PADDING = 3000  # Most samples that an MP3 encoder adds at both ends together.
_EXACT = {"flac", "ogg", "aiff", "au", MP4}  # Their headers (Ogg: last page) count samples.

FRAGMENTS_TOLERANCE = 0.5
"""Seconds by which the duration of all fragments of an MP4 file may be too long."""

HEADER_BYTES = 1 << 16
"""How much of a file is searched for its header."""

ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""The object of an ASF (WMA) header that holds the duration."""


class DeclaredDuration(NamedTuple):
    """The duration that a file declares; None if it declares none, or only roughly."""

    seconds: float | None = None
    tolerance: float = TOLERANCE

    def met(self, done: float, unknown: bool) -> bool:
        """Whether `done` seconds are all there is; `unknown` if none is declared."""
        return unknown if self.seconds is None else done > self.seconds - self.tolerance


def declared_duration(
    container: InputContainer, track: AudioStream, reader: Reader
) -> DeclaredDuration:
    """Read the duration in a file's header.

    ffmpeg's own durations are not enough: for WAV and MP3 they may be guessed from the file's
    size, so that a file that breaks off would look complete.
    """
    kind = container.format.name
    if not track.rate:
        return DeclaredDuration()
    if kind == "wav":
        return DeclaredDuration(_wav_seconds(track, reader), _WAV_TOLERANCE)
    if kind == "mp3":
        return DeclaredDuration(_mp3_seconds(track, reader), TOLERANCE + _MP3_PADDING / track.rate)
    if kind == WEBM:
        # Only the longest track's length is known.
        if container.duration is None or len(container.streams) > 1:
            return DeclaredDuration()
        return DeclaredDuration((container.duration - (container.start_time or 0)) / av.time_base)
    if kind in DECLARED and len(container.streams) == 1:
        read, tolerance = DECLARED[kind]
        seconds = read(track, reader)
        return (
            DeclaredDuration(seconds, tolerance) if seconds and seconds > 0 else DeclaredDuration()
        )
    if kind == MP4 and len(container.streams) == 1 and (seconds := _fragments_seconds(reader)):
        return DeclaredDuration(seconds, FRAGMENTS_TOLERANCE)
    if kind in _EXACT and track.duration and track.time_base:
        exact = 0.5 / track.rate if kind == "flac" else TOLERANCE
        return DeclaredDuration(float(track.duration * track.time_base), exact)
    return DeclaredDuration()


def _avi_seconds(track: AudioStream, reader: Reader) -> float | None:
    if not track.frames or track.time_base is None:
        return None
    return float(track.frames * track.time_base)


def _flv_seconds(track: AudioStream, reader: Reader) -> float | None:
    data = _behind(reader, b"duration\x00", 9, 8)
    return float(struct.unpack(">d", data)[0]) if data else None


def _rm_seconds(track: AudioStream, reader: Reader) -> float | None:
    data = _behind(reader, b"PROP", 30, 4)
    return int.from_bytes(data, "big") / 1e3 if data else None


def _asf_seconds(track: AudioStream, reader: Reader) -> float | None:
    data = _behind(reader, ASF_PROPERTIES, 64, 28)
    if data is None:
        return None
    ticks, _, before, flags = struct.unpack("<QQQI", data)
    live = flags & 1  # Then the durations mean nothing.
    return None if live else float(ticks / 1e7 - before / 1e3)


def _fragments_seconds(reader: Reader) -> float | None:
    """The duration of all fragments of an MP4 file by its header or its first index of them."""
    scale = 0
    for box in islice(boxes(reader.peek, frozenset({b"moov", b"mvex"})), MOST_BOXES):
        if box.kind == b"moof":
            return None
        content = reader.peek(box.start, 32)
        wide = content[:1] == b"\1"  # Times of 64 bits.
        if box.kind == b"mvhd":
            scale = int.from_bytes(content[20:24] if wide else content[12:16], "big")
        elif box.kind == b"mehd" and scale:
            number = content[4 : 12 if wide else 8]
            unknown = number == b"\xff" * len(number)
            return None if unknown else int.from_bytes(number, "big") / scale
        elif box.kind == b"sidx":
            scale = int.from_bytes(content[8:12], "big")
            head = 32 if wide else 24
            count = int.from_bytes(content[head - 2 : head], "big")
            entries = reader.peek(box.start + head, 12 * count)
            # The first bit of an entry says that it is another index.
            durations = [time for kind, time, _ in _triples(entries) if kind < 1 << 31]
            return sum(durations) / scale if scale else None
    return None


def _triples(entries: bytes) -> Iterator[tuple[int, int, int]]:
    return struct.iter_unpack(">III", entries[: len(entries) // 12 * 12])


def _behind(reader: Reader, mark: bytes, offset: int, size: int) -> bytes | None:
    """Bytes of a file's header at an offset from a mark, if they are there."""
    head = reader.peek(0, HEADER_BYTES)
    begin = head.find(mark) + offset
    data = head[begin : begin + size]
    return data if begin >= offset and len(data) == size else None


DECLARED: dict[str, tuple[Callable[[AudioStream, Reader], float | None], float]] = {
    "avi": (_avi_seconds, 0.1),
    "flv": (_flv_seconds, 0.2),
    "rm": (_rm_seconds, 1.0),
    "asf": (_asf_seconds, 0.5),
}
"""How the duration of a file with one track is read, and by how much it may be too long, by name of
the container in ffmpeg."""


def _wav_seconds(track: AudioStream, reader: Reader) -> float | None:
    data = wav_data(reader)
    if data is None or not data.block or not track.codec_context.name.startswith("pcm_"):
        return None
    return data.length / data.block / track.rate


class WavData(NamedTuple):
    """Where the sound of a WAV file lies, its stated length, and the bytes of a block."""

    offset: int
    length: int
    block: int


def wav_data(reader: Reader) -> WavData | None:
    """Find the sound of a WAV file; None where its length is unknown."""
    offset, block, long_size = 12, 0, None
    for _ in range(1000):
        name, size = reader.peek(offset, 4), reader.peek(offset + 4, 4)
        if len(size) < 4:
            return None
        (length,) = struct.unpack("<I", size)
        if name == b"data":
            if length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            # A writer that could not go back leaves 0 or one of the two largest sizes.
            elif length == 0 or length >= 0xFFFF0000 or abs(length - 0x7FFF8000) <= 0x8000:
                return None
            return WavData(offset + 8, length, block)
        if name == b"fmt ":
            block = int.from_bytes(reader.peek(offset + 20, 2), "little")
        elif name == b"ds64":
            long_size = int.from_bytes(reader.peek(offset + 16, 8), "little")
        offset += 8 + length + length % 2
    return None


def _mp3_seconds(track: AudioStream, reader: Reader) -> float | None:
    """From the count of frames in the Xing or Info header, if there is one."""
    tag = reader.peek(0, 10)
    begin = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        for byte in tag[6:]:
            begin = begin << 7 | byte & 0x7F
        begin += 10
    head = reader.peek(begin, 4096)
    for mark in (b"Xing", b"Info"):
        offset = head.find(mark)
        if offset >= 0 and len(head) >= offset + 12 and head[offset + 7] & 1:
            frames = int.from_bytes(head[offset + 8 : offset + 12], "big")
            return frames * (1152 if track.rate >= 32_000 else 576) / track.rate
    return None
