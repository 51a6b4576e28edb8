"""Checks the number of samples in the tables of an MP4 file before ffmpeg builds its index.

A table that gives all samples the same size takes a few bytes, whatever their number, and ffmpeg
allocates an index of 36 bytes for each when it opens the file: gigabytes for a file of kilobytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from auris.audio.reader import Reader, unreadable

__all__ = ["check_tables"]

MOST_ENTRIES = 8_000_000
"""Most samples (packets) of an index, of all tracks together: more than 40 hours of AAC, and some
300 MB of memory."""

MOST_BOXES = 500_000
"""Most boxes that are looked at: a file in fragments has about eight a second."""

TOP = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"})
"""Boxes that an MP4 or QuickTime file may begin with."""

PARENTS = frozenset(
    {b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"cmov"}
)
"""Boxes that hold others, on the way to the tables."""

PCM_SAMPLES = 128
"""Fewer samples of PCM never share an entry of the index."""

MOST_UNPACKED_BYTES = 1 << 24
"""Most bytes of a compressed header that are looked at."""


Peek = Callable[[int, int], bytes]
"""Returns bytes at an offset, up to a size."""


class _Box(NamedTuple):
    kind: bytes
    start: int  # Of its content.
    end: int


class _Track:
    """The numbers in the tables of a track."""

    def __init__(self) -> None:
        self.samples = 0
        self.edits = 1
        self.chunks = 0
        self.chunk_samples = 0
        self.pcm = False

    @property
    def entries(self) -> int:
        """Entries of the index that ffmpeg builds."""
        samples = self.samples
        if self.pcm:
            samples = self.chunks * (self.chunk_samples // PCM_SAMPLES + 1)
        return samples * self.edits


def check_tables(reader: Reader, name: str) -> None:
    """Refuse an MP4 whose tables have an absurd number of samples; other formats pass.

    Raises:
        UnreadableAudio: they do.
    """
    if not reader.seekable() or reader.peek(4, 4) not in TOP:
        return
    _check(reader.peek, name)


def _check(peek: Peek, name: str) -> None:
    entries, tracks = 0, [_Track()]
    for count, box in enumerate(_boxes(peek)):
        if box.kind == b"cmvd":
            _check(_unpacked(peek(box.start + 4, box.end - box.start - 4)), name)
        elif box.kind == b"trak":
            tracks.append(_Track())
        elif box.kind == b"trun":
            entries += _number(peek, box, 4)
        else:
            _read_table(peek, box, tracks[-1])
        claimed = entries + sum(track.entries for track in tracks[-1000:])
        if claimed > MOST_ENTRIES or count > MOST_BOXES or len(tracks) > 1000:
            unreadable(
                "The tables of an MP4 file have to fit a recording",
                f"those of {name} claim {claimed} packets in {len(tracks) - 1} tracks",
                "get or encode the file anew",
            )


def _read_table(peek: Peek, box: _Box, track: _Track) -> None:
    if box.kind in (b"stsz", b"stz2"):
        track.samples = _number(peek, box, 8)
    elif box.kind == b"elst":
        track.edits = max(1, _number(peek, box, 4))
    elif box.kind in (b"stco", b"co64"):
        track.chunks = _number(peek, box, 4)
    elif box.kind == b"stsc":
        track.chunk_samples = _most_chunk_samples(peek, box)
    elif box.kind == b"stts":
        track.pcm = _number(peek, box, 4) == 1 and _number(peek, box, 12) == 1


def _most_chunk_samples(peek: Peek, box: _Box) -> int:
    entries = peek(box.start + 8, min(box.end - box.start - 8, 1 << 24))
    numbers = struct.iter_unpack(">III", entries[: len(entries) // 12 * 12])
    return max((samples for _, samples, _ in numbers), default=0)


def _number(peek: Peek, box: _Box, offset: int) -> int:
    """A 32-bit number of a box; 0 where it ends before."""
    return int.from_bytes(peek(box.start + offset, 4), "big")


def _boxes(peek: Peek) -> Iterator[_Box]:
    """All boxes on the way to the tables, parents before what they hold."""
    offset, ends = 0, [1 << 62]
    while True:
        head = peek(offset, 16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        begin = 8
        if size == 1 and len(head) == 16:
            size, begin = int.from_bytes(head[8:], "big"), 16
        end = ends[-1] if size == 0 else offset + size
        if end < offset + begin:
            return
        box = _Box(kind, offset + begin, min(end, ends[-1]))
        yield box
        if kind in PARENTS and len(ends) < 16:
            ends.append(box.end)
            offset = box.start
        else:
            offset = box.end
        while len(ends) > 1 and offset + 8 > ends[-1]:
            offset = ends.pop()


def _unpacked(packed: bytes) -> Peek:
    """A header that lies compressed in the file; empty where it is damaged."""
    try:
        header = zlib.decompressobj().decompress(packed, MOST_UNPACKED_BYTES)
    except zlib.error:
        header = b""
    return lambda offset, size: header[offset : offset + size]
