"""Audio as realtime clients send it: 16-bit samples, or the companded ones of telephony.

Source: ITU-T G.711, tables 1 and 2: eight segments of sixteen steps, each segment twice as wide as
the one below it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auris.server.errors import invalid

Pcm = NDArray[np.int16]


@dataclass(frozen=True)
class Format:
    """A format of audio, with its names in both session objects and the bytes of a sample."""

    name: str
    older_name: str
    rate: int
    width: int
    read: Callable[[bytes], Pcm]


def _mu_law() -> Pcm:
    code = ~np.arange(256, dtype=np.uint8)
    segment, step = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = ((step << 3) + 132 << segment) - 132
    return np.where(code & 128, -size, size).astype(np.int16)


def _a_law() -> Pcm:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment, step = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = np.where(segment, (step << 4) + 264 << np.maximum(segment - 1, 0), (step << 4) + 8)
    return np.where(code & 128, size, -size).astype(np.int16)


def _companded(table: Pcm) -> Callable[[bytes], Pcm]:
    return lambda data: table[np.frombuffer(data, np.uint8)]


def _pcm(data: bytes) -> Pcm:
    return np.frombuffer(data, "<i2").astype(np.int16)


FORMATS = (
    Format("audio/pcm", "pcm16", 24_000, 2, _pcm),
    Format("audio/pcmu", "g711_ulaw", 8_000, 1, _companded(_mu_law())),
    Format("audio/pcma", "g711_alaw", 8_000, 1, _companded(_a_law())),
)


def decoded(audio: str, of: Format) -> Pcm:
    """The samples of an append, [S]."""
    try:
        data = base64.b64decode(audio, validate=True)
    except ValueError:
        raise invalid("audio", "it has to be base64") from None
    if len(data) % of.width:
        reason = f"{of.name} has samples of {of.width} bytes, and the last one is not complete"
        raise invalid("audio", reason)
    return of.read(data)
