"""Whether a file breaks off inside one of the parts that its container is made of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from auris.audio.declared_duration import MP4, WEBM, wav_data
from auris.audio.mp4_tables import MOST_BOXES, boxes
from auris.audio.reader import Reader

OGG_PAGE = 1 << 16
"""Most bytes of a page of an Ogg file."""

VOC_HEADER, VOC_SIZE_OFFSET = b"Creative Voice File\x1a", 20

TAIL_BYTES = 1 << 23
"""How much of the end of a WebM file is searched for its last cluster."""

CLUSTER = b"\x1f\x43\xb6\x75"

CLUSTER_BEGINNINGS = (b"\xe7", b"\xec", b"\xbf")
"""Elements that a cluster begins with: the time, padding or a checksum."""

ELEMENTS = frozenset(
    {
        *(CLUSTER, *CLUSTER_BEGINNINGS, b"\xa3", b"\xa0", b"\xa7", b"\xab"),
        *(b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67"),
    }
)
"""Elements of clusters (blocks, times, positions) and behind them (cues, tags) in a WebM file."""

MXF_KEY = bytes.fromhex("060e2b34")
"""The beginning of the key of every packet of an MXF file."""

MOST_PACKETS = 2_000_000
"""Most packets of an MXF file that are looked at."""

LAST_BOXES = frozenset({b"moof", b"mdat", b"mfra", b"sidx", b"styp", b"emsg", b"uuid", b"free"})
"""Boxes that follow each other in an MP4 file in fragments; what comes behind them is no MP4."""

MPEG_RATES = (0, 4, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 0)
"""Bit rates of MPEG-1 layer II in steps of 8 kbit/s, by the index in a frame's header."""

LOW_RATES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 0)
"""The same of MPEG-2 layer II."""

BYTES_TIMES_HERTZ = 1_152_000
"""Bytes of a frame at one step of the bit rate, times the sample rate in Hz."""


def breaks_off(kind: str, reader: Reader) -> bool:
    """Whether a file ends before its last part does.

    Args:
        kind: ffmpeg's name of the container.
        reader: the file.
    """
    check = CHECKS.get(kind)
    return check is not None and reader.seekable() and check(reader)


def _ends_inside_data(reader: Reader) -> bool:
    """Whether a WAV file ends before its stated data do, of whatever codec they are."""
    data = wav_data(reader)
    return data is not None and reader.peek(data.offset + data.length - 1, 1) == b""


def _ends_inside_page(reader: Reader) -> bool:
    """Whether the last page of an Ogg file is incomplete."""
    tail = reader.peek(-2 * OGG_PAGE, 2 * OGG_PAGE)
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if not page.startswith(b"OggS"):
        return False
    header = 27 + (page[26] if len(page) > 26 else 0)
    return len(page) < header + sum(page[27:header]) or len(page) < header


def _ends_inside_block(reader: Reader) -> bool:
    """Whether a VOC file ends before its last block does."""
    head = reader.peek(0, 26)
    if not head.startswith(VOC_HEADER):
        return False
    offset = int.from_bytes(head[VOC_SIZE_OFFSET : VOC_SIZE_OFFSET + 2], "little")
    while len(block := reader.peek(offset, 4)) == 4 and block[0]:
        offset += 4 + int.from_bytes(block[1:], "little")
        if reader.peek(offset - 1, 1) == b"":
            return True
    return False


def _ends_inside_box(reader: Reader) -> bool:
    """Whether an MP4 file in fragments ends before its last box does.

    Without fragments, the header states the duration, and data at the end may be missing.
    """
    top = list(islice(boxes(reader.peek, frozenset()), MOST_BOXES))
    if b"moof" not in {box.kind for box in top}:
        return False
    last = top[-1]
    to_the_end = reader.peek(last.kind_offset - 4, 4) == bytes(4)
    return last.kind in LAST_BOXES and not to_the_end and last.end != reader.size()


def _ends_inside_element(reader: Reader) -> bool:
    """Whether a WebM file ends before the last element of its last cluster does."""
    size = reader.size()
    begin = max(0, size - TAIL_BYTES)
    tail = reader.peek(begin, TAIL_BYTES)
    offset = tail.rfind(CLUSTER)
    while offset >= 0:
        length = _vint_length(tail, offset + 4)
        content = offset + 4 + length
        if tail[content : content + 1] in CLUSTER_BEGINNINGS:
            return _ends_inside_child(tail, content)
        offset = tail.rfind(CLUSTER, 0, offset)
    return False


def _ends_inside_child(tail: bytes, offset: int) -> bool:
    while offset < len(tail):
        head = offset + _vint_length(tail, offset)
        kind = tail[offset:head]
        if kind not in ELEMENTS:
            return False
        content = head + _vint_length(tail, head)
        if content > len(tail):
            return True
        if kind == CLUSTER:
            offset = content
            continue
        number = int.from_bytes(tail[head:content], "big") & (1 << 7 * (content - head)) - 1
        offset = content + number
    return offset > len(tail)


def _vint_length(data: bytes, offset: int) -> int:
    """Bytes of a number of variable length."""
    first = data[offset] if offset < len(data) else 0
    return 9 - first.bit_length()


def _ends_inside_packet(reader: Reader) -> bool:
    """Whether an MXF file ends before its last packet does."""
    offset, size = 0, reader.size()
    for _ in range(MOST_PACKETS):
        head = reader.peek(offset, 25)
        if not head.startswith(MXF_KEY):
            return False
        more = head[16] & 0x7F if len(head) > 16 and head[16] & 0x80 else 0
        length = head[16:17] if not more else head[17 : 17 + more]
        offset += 17 + more + int.from_bytes(length, "big")
        if offset >= size:
            return offset > size
    return False


CHECKS: dict[str, Callable[[Reader], bool]] = {
    "wav": _ends_inside_data,
    "ogg": _ends_inside_page,
    "voc": _ends_inside_block,
    MP4: _ends_inside_box,
    WEBM: _ends_inside_element,
    "mxf": _ends_inside_packet,
}
"""What is checked at the end of a file, by ffmpeg's name of the container."""


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
