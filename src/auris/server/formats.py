"""The formats of transcripts in the API, by their names."""

from __future__ import annotations

from typing import Literal

from auris.output.formats import WRITERS

FurtherFormat = Literal["text", "srt", "verbose_json", "vtt"]
"""Formats that may be added to the end of a stream."""

CommonFormat = Literal["json", FurtherFormat]
"""Formats in which any transcript can be written."""

ResponseFormat = Literal[CommonFormat, "diarized_json"]

STREAMED = ("json", "text", "verbose_json", "diarized_json")

TIMED = ("verbose_json", "srt", "vtt")
"""Formats that show the times of words."""

TEXTS = {
    "text": (WRITERS["txt"], "text/plain"),
    "srt": (WRITERS["srt"], "application/x-subrip"),
    "vtt": (WRITERS["vtt"], "text/vtt"),
}
"""Writers and content types of the formats that are not JSON."""
