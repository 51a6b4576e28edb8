"""The duration that a file declares, with which a file that breaks off is noticed."""

from __future__ import annotations

import struct
from typing import NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from auris.audio.container_durations import DECLARED
from auris.audio.reader import Reader

__all__ = [
    "MP4",
    "TOLERANCE",
    "WEBM",
    "DeclaredDuration",
    "declared_duration",
    "ends_inside_data",
    "ends_inside_page",
]

TOLERANCE = 0.1
"""Seconds by which a clock may differ from the samples: codecs pad and delay."""

MP4, WEBM = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
"""ffmpeg's names of two families of containers."""

_WAV_TOLERANCE = 0.01  # Some writers count header bytes as sound.
_MP3_PADDING = 3000  # Most samples that an MP3 encoder adds at both ends together.
_OGG_PAGE = 1 << 16  # An Ogg page is a little shorter.
_EXACT = {"flac", "ogg", "aiff", "au", MP4}  # Their headers (Ogg: last page) count samples.


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
    if kind in _EXACT and track.duration and track.time_base:
        exact = 0.5 / track.rate if kind == "flac" else TOLERANCE
        return DeclaredDuration(float(track.duration * track.time_base), exact)
    return DeclaredDuration()


def _wav_seconds(track: AudioStream, reader: Reader) -> float | None:
    data = _wav_data(reader)
    if data is None or not data.block or not track.codec_context.name.startswith("pcm_"):
        return None
    return data.length / data.block / track.rate


class _WavData(NamedTuple):
    """Where the sound of a WAV file lies, its stated length, and the bytes of a block."""

    offset: int
    length: int
    block: int


def _wav_data(reader: Reader) -> _WavData | None:
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
            return _WavData(offset + 8, length, block)
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


def ends_inside_data(reader: Reader) -> bool:
    """Whether a WAV file ends before its stated data do, of whatever codec they are."""
    data = _wav_data(reader) if reader.seekable() else None
    return data is not None and reader.peek(data.offset + data.length - 1, 1) == b""


def ends_inside_page(reader: Reader) -> bool:
    """Whether the last page of an Ogg file is incomplete."""
    tail = reader.peek(-2 * _OGG_PAGE, 2 * _OGG_PAGE)
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if not page.startswith(b"OggS"):
        return False
    header = 27 + (page[26] if len(page) > 26 else 0)
    return len(page) < header + sum(page[27:header]) or len(page) < header
