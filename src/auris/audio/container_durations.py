"""Durations that older containers declare, read from their headers.

ffmpeg's own durations of these formats may be guesses by the size of the file and the bit rate, so
that a file that breaks off would look complete, and a complete one longer than it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from av.audio.stream import AudioStream

from auris.audio.reader import Reader

__all__ = ["DECLARED", "ends_inside_block", "ends_inside_frame"]

HEADER_BYTES = 1 << 16
"""How much of a file is searched for its header."""

ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""The object of an ASF (WMA) header that holds the duration."""

MPEG_RATES = (0, 4, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 0)
"""Bit rates of MPEG-1 layer II in steps of 8 kbit/s, by the index in a frame's header."""

LOW_RATES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 0)
"""The same of MPEG-2 layer II."""

BYTES_TIMES_HERTZ = 1_152_000
"""Bytes of a frame at one step of the bit rate, times the sample rate in Hz."""

VOC_HEADER, VOC_SIZE_OFFSET = b"Creative Voice File\x1a", 20


def _avi_seconds(track: AudioStream, reader: Reader) -> float | None:
    if not track.frames or track.time_base is None:
        return None
    return float(track.frames * track.time_base)


def _flv_seconds(track: AudioStream, reader: Reader) -> float | None:
    head = reader.peek(0, HEADER_BYTES)
    offset = head.find(b"duration\x00")
    if offset < 0 or len(head) < offset + 17:
        return None
    (seconds,) = struct.unpack(">d", head[offset + 9 : offset + 17])
    return float(seconds)


def _rm_seconds(track: AudioStream, reader: Reader) -> float | None:
    head = reader.peek(0, HEADER_BYTES)
    offset = head.find(b"PROP")
    if offset < 0 or len(head) < offset + 34:
        return None
    return int.from_bytes(head[offset + 30 : offset + 34], "big") / 1e3


def _asf_seconds(track: AudioStream, reader: Reader) -> float | None:
    head = reader.peek(0, HEADER_BYTES)
    offset = head.find(ASF_PROPERTIES)
    if offset < 0 or len(head) < offset + 92:
        return None
    ticks, _, before, flags = struct.unpack("<QQQI", head[offset + 64 : offset + 92])
    live = flags & 1  # Then the durations mean nothing.
    return None if live else float(ticks / 1e7 - before / 1e3)


DECLARED: dict[str, tuple[Callable[[AudioStream, Reader], float | None], float]] = {
    "avi": (_avi_seconds, 0.1),
    "flv": (_flv_seconds, 0.2),
    "rm": (_rm_seconds, 1.0),
    "asf": (_asf_seconds, 0.5),
}
"""How the duration of a file with one track is read, and by how much it may be too long, by name of
the container in ffmpeg."""


def ends_inside_block(reader: Reader) -> bool:
    """Whether a VOC file ends before its last block does."""
    head = reader.peek(0, 26)
    if not reader.seekable() or not head.startswith(VOC_HEADER):
        return False
    offset = int.from_bytes(head[VOC_SIZE_OFFSET : VOC_SIZE_OFFSET + 2], "little")
    while len(block := reader.peek(offset, 4)) == 4 and block[0]:
        offset += 4 + int.from_bytes(block[1:], "little")
        if reader.peek(offset - 1, 1) == b"":
            return True
    return False


def ends_inside_frame(packet: bytes) -> bool:
    """Whether a packet of MPEG layer II is shorter than the frame that it begins with."""
    if len(packet) < 4 or packet[0] != 0xFF or packet[1] & 0xE6 != 0xE4:
        return False
    first = packet[1] & 0x18 == 0x18
    rate = (MPEG_RATES if first else LOW_RATES)[packet[2] >> 4]
    hertz = (44_100, 48_000, 32_000, 0)[packet[2] >> 2 & 3]
    if not rate or not hertz:
        return False
    hertz //= 1 if first else 2 if packet[1] & 0x10 else 4
    return len(packet) < BYTES_TIMES_HERTZ * rate // hertz + (packet[2] >> 1 & 1)
