"""Uploads that once crashed, hung or misled the reading of recordings, made on the spot."""

from __future__ import annotations

from collections.abc import Callable

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


def foreign(path: str) -> dict[str, Callable[[], bytes]]:
    """Files that name another file or a network address, by what they are."""
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
