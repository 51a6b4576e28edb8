"""Which container formats are read, and how ffmpeg is kept away from everything but the file."""

from __future__ import annotations

import struct

CONTAINERS = (
    *("3dostr", "aa", "aac", "aax", "ac3", "ac4", "act", "adx", "aea", "aiff", "amr", "amrnb"),
    *("amrwb", "apc", "ape", "asf", "asf_o", "ast", "au", "avi", "bonk", "brstm", "caf"),
    *("dhav", "dsf", "dss", "dts", "dtshd", "dv", "dxa", "eac3", "flac", "flv", "g722", "gsm"),
    *("gxf", "hcom", "iamf", "iff", "ilbc", "ircam", "kux", "lc3", "live_flv", "loas", "lvf"),
    *("matroska", "mlp", "mmf", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mtaf", "mtv"),
    *("mv", "mxf", "nistsphere", "nsv", "nut", "nuv", "ogg", "oma", "osq", "paf", "pva", "pvf"),
    *("qcp", "qoa", "rka", "rm", "sbc", "sds", "shn", "siff", "sol", "sox", "spdif", "svs"),
    *("swf", "tak", "truehd", "tta", "ty", "voc", "vqf", "w64", "wav", "wavarc", "webm", "wsd"),
    *("wtv", "wv", "wve", "xa", "xwma"),
)
"""ffmpeg's names of the formats that are read: files that hold their sound themselves. No playlist,
session description, device, picture, subtitle or script is among them."""

MP4_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"}
)
"""Boxes that an MP4 or QuickTime file may begin with."""

MOST_STREAMS = 256
"""Maximum streams of a file (sounds, pictures, subtitles, fonts); each takes up to a megabyte."""


def open_options(mp4: bool) -> dict[str, str]:
    """Options for opening a container; ffmpeg passes them on to every context that it opens itself.

    Args:
        mp4: whether it may be an MP4 or QuickTime file.
    """
    formats = [name for name in CONTAINERS if mp4 or name != "mov"]
    return {
        "format_whitelist": ",".join(formats),
        # No protocol has this name, so ffmpeg opens none; an empty list would allow all of them.
        "protocol_whitelist": "none",
        "max_streams": str(MOST_STREAMS),
    }


def wav_head(channels: int, rate: int) -> bytes:
    """The head of a WAV file of float32 samples; its sound is all that follows."""
    width = 4 * channels
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * width, width, 32)
    return b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + form + b"data\0\0\0\0"
