"""Uploads that once crashed or blocked the decoder, or made it read other files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from tests.audio.media import chirp, encode

MANY = "hexadecagonal"
"""ffmpeg's name of a layout of sixteen channels."""


def many_channels(container: str = "adts", codec: str = "aac") -> bytes:
    """A second of sixteen channels, each in a plane of its own when it is decoded."""
    options = {"mapping_family": "255"} if codec == "libopus" else {}
    layout = "16c" if codec == "libopus" else MANY
    return encode(
        chirp(1.0, 48_000, 16), 48_000, container, codec, layout=layout, codec_options=options
    )


def eight_channels() -> bytes:
    """A second of eight channels, each in a plane of its own when it is decoded."""
    return encode(chirp(1.0, 48_000, 8), 48_000, "adts", "aac")


def channels_change() -> bytes:
    """One channel, then sixteen, in one AAC file without a header."""
    return encode(chirp(1.0, 48_000), 48_000, "adts", "aac") + many_channels()


def rate_changes() -> bytes:
    """Two rates and two numbers of channels in one AAC file."""
    first = encode(chirp(1.0, 48_000, 2), 48_000, "adts", "aac")
    return first + encode(chirp(1.0, 22_050), 22_050, "adts", "aac")


def concat_script(path: str) -> bytes:
    """A script that makes ffmpeg read another file."""
    return f"ffconcat version 1.0\nfile {path}\n".encode()


def session_description(port: int = 5004) -> bytes:
    """A description of a stream, for which ffmpeg would open a UDP socket."""
    lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0")
    media = (f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "")
    return "\r\n".join(lines + media).encode()


def playlist(path: str) -> bytes:
    """A playlist of one file."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n".encode()


def wide_pcm(codec: str, container: str = "wav") -> bytes:
    """Half a second of PCM of 64 bits."""
    return encode(np.tile(chirp(0.5), (2, 1)), 16_000, container, codec)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def claimed_samples(
    samples: int = 80_000_000,
    edits: int = 0,
    chunks: int = 1,
    *,
    tracks: int = 1,
    first: bytes = b"ftyp",
    wrapped: dict[str, bytes] | None = None,
    kind: bytes = b"soun",
) -> bytes:
    """A small MP4 whose tables claim so many samples, for which ffmpeg builds an index.

    Args:
        samples: how many there are.
        edits: how often an edit list plays them.
        chunks: in how many chunks they lie; more than one gives PCM, a sample an entry.
        tracks: how often the track is there.
        first: the first box of the file.
        wrapped: for a box of those, the kind of another box that is put around it.
        kind: what the track holds.
    """

    def box(name: str, content: bytes) -> bytes:
        inner = _box(name.encode(), content)
        around = (wrapped or {}).get(name)
        return inner if around is None else _box(around, inner)

    pcm = chunks > 1
    entry = bytes(6) + struct.pack(">H", 1) + bytes(8) + struct.pack(">HHI", 1, 16, 0)
    entry = _box(b"sowt" if pcm else b".mp3", entry + struct.pack(">I", 48_000 << 16))
    delta = 1 if pcm else 1152
    tables = [
        _box(b"stsd", struct.pack(">II", 0, 1) + entry),
        _box(b"stts", struct.pack(">IIII", 0, 1, samples, delta)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples // chunks, 1)),
        box("stsz", struct.pack(">III", 0, 2 if pcm else 400, samples)),
        _box(b"stco", struct.pack(">II", 0, chunks) + struct.pack(">I", 2000) * chunks),
    ]
    media = [
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 48_000, 0, 0, 0)),
        _box(b"hdlr", struct.pack(">II4s", 0, 0, kind) + bytes(13)),
        box("minf", _box(b"smhd", bytes(8)) + box("stbl", b"".join(tables))),
    ]
    edit = struct.pack(">IIHH", 1000, 0, 1, 0) * edits
    track = [_box(b"tkhd", struct.pack(">IIIII", 1, 0, 0, 1, 0) + bytes(64))]
    if edits:
        track.append(_box(b"edts", _box(b"elst", struct.pack(">II", 0, edits) + edit)))
    track.append(box("mdia", b"".join(media)))
    movie = _box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0) + bytes(80))
    head = _box(first, b"isom" + bytes(4) + b"isom")
    movie += box("trak", b"".join(track)) * tracks
    return head + _box(b"moov", movie) + _box(b"mdat", bytes(4096))


HIDING = (
    b"udta",
    b"wave",
    b"mvex",
    b"tref",
    b"dinf",
    b"sinf",
    b"schi",
    b"meta",
    b"iprp",
    b"\xa9nam",
)
"""Boxes around tables; ffmpeg looks for tables in most of them."""


def claimed_elsewhere() -> dict[str, Callable[[], bytes]]:
    """MP4 files that declare samples in unusual boxes, by what is unusual."""
    makers: dict[str, Callable[[], bytes]] = {}
    for kind in (b"junk", b"pict", b"PICT", b"uuid", b"prfl", b"ediw", b"udta", b"sidx", b"emsg"):
        makers[f"begins with {kind.decode()}"] = partial(claimed_samples, first=kind)
    for kind in HIDING:
        for inner in ("trak", "mdia", "minf", "stbl", "stsz"):
            name = f"{inner} in {kind.decode('latin-1')}"
            makers[name] = partial(claimed_samples, wrapped={inner: kind})
    for parent in (b"udta", b"edts", b"mvex", b"dinf", b"ilst", b"minf", b"junk"):
        for before in (b"trak", b"mdia"):
            name = f"{parent.decode()} with a damaged box before {before.decode()}"
            makers[name] = partial(behind_damage, parent, before, 4)
    for size in (1, 2, 3, 7):
        makers[f"damaged box of size {size}"] = partial(behind_damage, b"udta", b"trak", size)
    makers["tracks"] = partial(claimed_samples, 8_000, tracks=900)
    makers["pictures"] = partial(claimed_samples, chunks=2, kind=b"vide")
    makers["fragments and tracks"] = fragments_and_tracks
    makers["index of fragments"] = index_of_fragments
    makers["header in free"] = lambda: claimed_samples().replace(b"moov", b"free")
    makers["long compressed header"] = lambda: compressed_header(
        claimed_samples(1000), b"\0\0\0\x08free" * 3_000_000
    )
    return makers


def behind_damage(parent: bytes, before: bytes, size: int) -> bytes:
    """A small MP4 in which a box with a damaged one stands before the claimed samples.

    Args:
        parent: kind of the box that holds the damaged one.
        before: kind of the box that follows it.
        size: size of the damaged box; less than its own header.
    """
    data = bytearray(claimed_samples())
    damaged = _box(parent, struct.pack(">I4sQ", size, b"junk", 3) + bytes(8))
    at = data.index(before) - 4
    for kind in (b"moov",) if before == b"trak" else (b"moov", b"trak"):
        begin = data.index(kind) - 4
        (length,) = struct.unpack_from(">I", data, begin)
        struct.pack_into(">I", data, begin, length + len(damaged))
    return bytes(data[:at] + damaged + data[at:])


def fragments_and_tracks(fragments: int = 20_000, tracks: int = 200) -> bytes:
    """A small MP4 of many empty fragments and empty tracks."""
    head = _box(b"ftyp", b"isom" + bytes(4) + b"isom")
    movie = _box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0) + bytes(80))
    movie += _box(b"trak", b"") * tracks
    return head + _box(b"moov", movie) + _box(b"moof", b"") * fragments + _box(b"mdat", bytes(99))


def index_of_fragments() -> bytes:
    """A small MP4 whose index of fragments leads to a fragment inside other data."""
    data = claimed_fragments()
    at, sound = data.index(b"moof") - 4, data.index(b"mdat") - 4
    head, fragment = data[:at], data[at:sound]
    first = 8 + 24 + 12 + 8  # Boxes of the index and the data, before the fragment.
    entry = struct.pack(">III", len(fragment), 48_000, 0)
    index = struct.pack(">IIIIIHH", 0, 1, 48_000, 0, first - 8 - 24 - 12, 0, 1) + entry
    return head + _box(b"sidx", index) + _box(b"mdat", fragment) + _box(b"mdat", bytes(4096))


def custom_layout(channels: int = 4, samples: int = 8_000) -> bytes:
    """A QuickTime file whose header names the place of each channel in a table."""
    labels = [35, 2, 0xFFFFFFFF, 36] * channels  # Left wide, right, unknown, right wide.
    labels = labels[:channels]
    places = b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in labels)
    chan = _box(b"chan", struct.pack(">IIII", 0, 0, 0, len(labels)) + places)
    entry = bytes(6) + struct.pack(">H", 1) + bytes(8)
    entry += struct.pack(">HHII", len(labels), 16, 0, 16_000 << 16)
    width = 2 * len(labels)

    def movie(offset: int) -> bytes:
        tables = [
            _box(b"stsd", struct.pack(">II", 0, 1) + _box(b"sowt", entry + chan)),
            _box(b"stts", struct.pack(">IIII", 0, 1, samples, 1)),
            _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1)),
            _box(b"stsz", struct.pack(">III", 0, width, samples)),
            _box(b"stco", struct.pack(">III", 0, 1, offset)),
        ]
        media = [
            _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 16_000, samples, 0, 0)),
            _box(b"hdlr", struct.pack(">I4s4s", 0, b"mhlr", b"soun") + bytes(13)),
            _box(b"minf", _box(b"smhd", bytes(8)) + _box(b"stbl", b"".join(tables))),
        ]
        track = _box(b"tkhd", struct.pack(">IIIII", 1, 0, 0, 1, 0) + bytes(64))
        track += _box(b"mdia", b"".join(media))
        head = _box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0) + bytes(80))
        return _box(b"moov", head + _box(b"trak", track))

    front = _box(b"ftyp", b"qt  " + bytes(4) + b"qt  ")
    offset = len(front) + len(movie(0)) + 8
    sound = (np.arange(samples * len(labels)) % 1000).astype("<i2").tobytes()
    return front + movie(offset) + _box(b"mdat", sound)


def compressed_header(movie: bytes, more: bytes = b"") -> bytes:
    """The MP4 with its header compressed, as old versions of QuickTime write it.

    Args:
        movie: the MP4.
        more: boxes that are added to the header.
    """
    at = movie.index(b"moov") - 4
    (length,) = struct.unpack(">I", movie[at : at + 4])
    header = _box(b"moov", movie[at + 8 : at + length] + more)
    packed = _box(b"cmvd", struct.pack(">I", len(header)) + zlib.compress(header))
    packed = _box(b"moov", _box(b"cmov", _box(b"dcom", b"zlib") + packed))
    return movie[:at] + packed + movie[at + length :]


def claimed_fragments(samples: int = 60_000_000, runs: int = 8) -> bytes:
    """A small MP4 in fragments whose runs claim so many samples each."""
    whole = claimed_samples(0)
    trex = _box(b"mvex", _box(b"trex", struct.pack(">IIIIII", 0, 1, 1, 1152, 400, 0)))
    at = whole.index(b"moov") - 4
    (length,) = struct.unpack(">I", whole[at : at + 4])
    movie = struct.pack(">I", length + len(trex)) + whole[at + 4 : at + length] + trex
    track = _box(b"tfhd", struct.pack(">II", 0x020000, 1))
    track += _box(b"trun", struct.pack(">II", 0, samples)) * runs
    moof = _box(b"moof", _box(b"mfhd", bytes(8)) + _box(b"traf", track))
    return whole[:at] + movie + moof + _box(b"mdat", bytes(4096))


def foreign(path: str) -> dict[str, Callable[[], bytes]]:
    """Files that name another file or a network address, by format."""
    return {
        "concat": lambda: concat_script(path),
        "concat of a URL": lambda: concat_script("http://127.0.0.1:9/a.wav"),
        "sdp": session_description,
        "hls": lambda: playlist(path),
        "hls of a URL": lambda: playlist("http://127.0.0.1:9/a.ts"),
        "dash": lambda: (
            b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
            b"<BaseURL>" + path.encode() + b"</BaseURL></MPD>"
        ),
        "imf": lambda: b'<?xml version="1.0"?><CompositionPlaylist></CompositionPlaylist>',
        "subtitles": lambda: b"1\n00:00:00,000 --> 00:00:01,000\nWords\n\n" * 20,
        "vobsub": lambda: b"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
        "metadata": lambda: b";FFMETADATA1\ntitle=x\n",
        "rtsp": lambda: b"RTSP/1.0 200 OK\r\n\r\n",
        "text art": lambda: b"\x1b[1mWords\x1b[0m\n" * 50,
    }
