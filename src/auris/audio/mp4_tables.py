"""Checks the tables of an MP4 file before ffmpeg builds its index.

A table that gives all samples the same size takes a few bytes, whatever their number, and ffmpeg
allocates an index of 36 bytes or more for each when it opens the file: gigabytes for a file of
kilobytes.

The tables are counted in the boxes that hold them by the standard. ffmpeg looks for them in more
boxes, and in others from version to version. Therefore every other box in which the name of a table
occurs is hidden from ffmpeg: it reads no table that was not counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from auris.audio.formats import MOST_STREAMS
from auris.audio.reader import Reader, unreadable

MOST_ENTRIES = 8_000_000
"""Maximum samples (packets) in the index of all tracks: more than 40 hours of AAC, and some
300 MB of memory."""

MOST_BOXES = 500_000
"""Maximum number of boxes that are read: a file in fragments has about eight a second."""

MOST_DEPTH = 16
"""Maximum depth of nested boxes; the limit of ffmpeg is lower."""

PARENTS = frozenset(
    {
        *(b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"cmov"),
        *(b"dinf", b"mvex", b"udta", b"ilst"),
    }
)
"""Boxes whose content is other boxes from its first byte on."""

LEAVES = frozenset(
    {
        *(b"mdat", b"stsz", b"stz2", b"stts", b"ctts", b"stsc", b"stco", b"co64", b"stss", b"stps"),
        *(b"sdtp", b"sgpd", b"sbgp", b"elst", b"trun", b"saiz", b"saio", b"senc", b"cmvd", b"ftyp"),
        *(b"mfhd", b"tfhd", b"tfdt", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"smhd", b"trex"),
    }
)
"""Boxes that hold no others."""

TABLES = re.compile(rb"stsz|stz2|stts|ctts|stsc|stco|co64|elst|trun|moof|cmov|cmvd|sidx")
"""Names of boxes that make ffmpeg allocate memory."""

MEDIA = frozenset({b"soun", b"vide", b"subp", b"clcp"})
"""Kinds of media that ffmpeg knows in the header of a track."""

PCM_SAMPLES = 128
"""Fewer samples of PCM never share an entry of the index."""

MOST_UNPACKED_BYTES = 1 << 24
"""Longest compressed header."""

SCANNED_BYTES = 1 << 20
"""How much of a box is scanned at once."""

Peek = Callable[[int, int], bytes]
"""Returns bytes at an offset, up to a size."""


class Box(NamedTuple):
    """A box of an MP4 file."""

    kind: bytes
    kind_offset: int
    start: int  # Of its content.
    end: int


class _Track:
    """The largest numbers in the tables of a track."""

    def __init__(self) -> None:
        self.samples = 0
        self.edits = 1
        self.chunks = 0
        self.chunk_samples = 0
        self.media: set[bytes] = set()
        self.runs: set[tuple[int, int]] = set()

    @property
    def entries(self) -> int:
        """Entries of the index that ffmpeg builds."""
        samples = self.samples
        # PCM: every sample has the duration 1.
        if self.runs == {(1, 1)} and self.media == {b"soun"}:
            samples = self.chunks * (self.chunk_samples // PCM_SAMPLES + 1)
        return samples * self.edits


def is_checked_mp4(reader: Reader, name: str) -> bool:
    """Check the tables of an MP4 file.

    Boxes that may not be read are hidden in `reader`.

    Returns:
        whether it is an MP4 file whose tables are sound; False for other formats.

    Raises:
        UnreadableAudio: the tables claim more packets than the file can hold.
    """
    if not reader.seekable():
        return False
    top = islice(boxes(reader.peek, frozenset()), MOST_BOXES)
    is_mp4 = any(box.kind == b"moov" for box in top)
    if is_mp4:
        for box in _check(reader.peek, reader.size(), name):
            reader.hide(box.kind_offset)
    return is_mp4


def _check(peek: Peek, size: int, name: str) -> list[Box]:
    """Check the tables; returns the boxes that have to be hidden."""
    entries, fragments, tracks, hidden = 0, 0, [_Track()], list[Box]()
    for count, box in enumerate(boxes(peek, PARENTS)):
        if count == MOST_BOXES:
            _refuse(name, f"lie in more than {MOST_BOXES} boxes")
        if box.kind == b"cmvd":
            _check_compressed(peek, box, size, name)
        elif box.kind == b"trak":
            tracks.append(_Track())
        elif box.kind == b"moof":
            fragments += 1
        elif box.kind == b"trun":
            entries += _number(peek, box, 4)
        elif box.kind in LEAVES:
            _read_table(peek, box, tracks[-1])
        elif box.kind == b"sidx" or (box.kind not in PARENTS and _names_table(peek, box)):
            # The offsets of an index of fragments may lead anywhere in the file.
            hidden.append(box)
    # Every track has an entry for each fragment, and every packet at least one byte.
    entries += sum(track.entries for track in tracks) + fragments * len(tracks)
    if len(tracks) - 1 > MOST_STREAMS:
        _refuse(name, f"are of {len(tracks) - 1} tracks, and {MOST_STREAMS} are read")
    if entries > min(MOST_ENTRIES, size):
        _refuse(name, f"claim {entries} packets in {len(tracks) - 1} tracks and {size} bytes")
    return hidden


def _check_compressed(peek: Peek, box: Box, size: int, name: str) -> None:
    """Check the tables in a compressed header."""
    if _number(peek, box, 0) > MOST_UNPACKED_BYTES:
        _refuse(name, f"are compressed and of more than {MOST_UNPACKED_BYTES} bytes")
    packed = peek(box.start + 4, box.end - box.start - 4)
    try:
        header = zlib.decompressobj().decompress(packed, MOST_UNPACKED_BYTES)
    except zlib.error:
        return  # ffmpeg cannot read it either.
    if _check(lambda offset, count: header[offset : offset + count], size, name):
        _refuse(name, "are compressed and lie in unusual boxes")


def _refuse(name: str, problem: str) -> None:
    unreadable(
        "The tables of an MP4 file have to fit a recording",
        f"those of {name} {problem}",
        "get or encode the file anew",
    )


def _read_table(peek: Peek, box: Box, track: _Track) -> None:
    if box.kind in (b"stsz", b"stz2"):
        track.samples = max(track.samples, _number(peek, box, 8))
    elif box.kind == b"elst":
        fitting = (box.end - box.start - 8) // 12
        track.edits = max(track.edits, min(_number(peek, box, 4), fitting))
    elif box.kind in (b"stco", b"co64"):
        track.chunks = max(track.chunks, _number(peek, box, 4))
    elif box.kind == b"stsc":
        track.chunk_samples = max(track.chunk_samples, _most_chunk_samples(peek, box))
    elif box.kind == b"stts":
        track.runs.add((_number(peek, box, 4), _number(peek, box, 12)))
    elif box.kind == b"hdlr" and (kind := peek(box.start + 8, 4)) in MEDIA:
        track.media.add(kind)


def _most_chunk_samples(peek: Peek, box: Box) -> int:
    entries = peek(box.start + 8, min(box.end - box.start - 8, 1 << 24))
    numbers = struct.iter_unpack(">III", entries[: len(entries) // 12 * 12])
    return max((samples for _, samples, _ in numbers), default=0)


def _number(peek: Peek, box: Box, offset: int) -> int:
    """A 32-bit number of a box; 0 where it ends before."""
    return int.from_bytes(peek(box.start + offset, 4), "big")


def _names_table(peek: Peek, box: Box) -> bool:
    """Whether the name of a table occurs in a box."""
    for offset in range(box.start, box.end, SCANNED_BYTES):
        content = peek(offset, min(SCANNED_BYTES + 3, box.end - offset))
        if TABLES.search(content):
            return True
        if not content:
            break
    return False


def boxes(peek: Peek, parents: frozenset[bytes]) -> Iterator[Box]:
    """All boxes at the top and in `parents`, parents before what they hold."""
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
            if len(ends) == 1:
                return
            offset = ends.pop()  # ffmpeg, too, goes on behind the parent of a damaged box.
            continue
        if kind in (b"free", b"hoov") and head[12:] in (b"mvhd", b"cmov"):
            kind = b"moov"  # ffmpeg takes it for one.
        box = Box(kind, offset + 4, offset + begin, min(end, ends[-1]))
        yield box
        if kind in parents and len(ends) < MOST_DEPTH:
            ends.append(box.end)
            offset = box.start
        else:
            offset = box.end
        while len(ends) > 1 and offset + 8 > ends[-1]:
            offset = ends.pop()
