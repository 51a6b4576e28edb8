"""Transcripts as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from auris.types import Transcript

__all__ = ["WRITERS", "to_json", "to_text"]


def to_text(transcript: Transcript, name: str) -> str:
    """The text alone, on one line: where a model writes line breaks, spaces stand."""
    return " ".join(transcript.text.splitlines()) + "\n"


def to_json(transcript: Transcript, name: str) -> str:
    """One JSON object on one line; `file` names the recording."""
    return json.dumps({"file": name, **transcript.to_dict()}, ensure_ascii=False) + "\n"


WRITERS: Mapping[str, Callable[[Transcript, str], str]] = {"txt": to_text, "json": to_json}
"""Writers by format, which is also the file suffix."""
