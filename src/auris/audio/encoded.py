"""Recordings inside text: data URIs and base64."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from auris.errors import UnreadableAudio

URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_data_uri(source: str) -> bool:
    """Whether a source holds its recording itself."""
    return source[:5].lower() == "data:"


def from_data_uri(uri: str) -> bytes:
    """The bytes of `data:[TYPE][;base64],DATA`; the type is not used.

    Raises:
        UnreadableAudio: there is no comma, or the base64 is damaged.
    """
    head, comma, data = uri.partition(",")
    if not comma:
        raise UnreadableAudio(
            "A data URI has to be data:TYPE;base64,DATA",
            "there is no comma in it",
            "check that it is complete",
        )
    raw = unquote_to_bytes(data)
    return from_base64(raw) if head.lower().endswith(";base64") else raw


def from_base64(text: str | bytes) -> bytes:
    """The bytes of base64, of the usual or the URL-safe alphabet; white space does not count.

    Raises:
        UnreadableAudio: it is damaged.
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
        letters = re.sub(rb"\s+", b"", data).translate(URL_SAFE).rstrip(b"=")
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableAudio(
            "The audio is not valid base64",
            "",
            "encode the file again",
        ) from None
