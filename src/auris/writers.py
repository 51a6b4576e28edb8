"""Transcripts, and words with their times, as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from auris.types import Transcript, Word

__all__ = ["WORD_WRITERS", "WRITERS", "to_json", "to_text", "words_to_json", "words_to_text"]


def to_text(transcript: Transcript, name: str) -> str:
    """The text alone, on one line: where a model writes line breaks, spaces stand."""
    return " ".join(transcript.text.splitlines()) + "\n"


def to_json(transcript: Transcript, name: str) -> str:
    """One JSON object on one line; `file` names the recording."""
    return json.dumps({"file": name, **transcript.to_dict()}, ensure_ascii=False) + "\n"


WRITERS: Mapping[str, Callable[[Transcript, str], str]] = {"txt": to_text, "json": to_json}
"""Writers by format, which is also the file suffix."""


def words_to_text(words: Sequence[Word], name: str) -> str:
    """A line for every word: start, end, the word and, where a time was inferred, `repaired`.

    Fields are separated by tabs; a time that is not known is `-`.
    """

    def line(word: Word) -> str:
        times = ("-" if time is None else f"{time:.3f}" for time in (word.start, word.end))
        return "\t".join([*times, word.text, *(["repaired"] if word.repaired else [])]) + "\n"

    return "".join(map(line, words))


def words_to_json(words: Sequence[Word], name: str) -> str:
    """One JSON object on one line; `file` names the recording."""
    content = {"file": name, "words": [word.to_dict() for word in words]}
    return json.dumps(content, ensure_ascii=False) + "\n"


WORD_WRITERS: Mapping[str, Callable[[Sequence[Word], str], str]] = {
    "txt": words_to_text,
    "json": words_to_json,
}
"""Writers of words by format."""
