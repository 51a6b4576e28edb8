"""Transcripts as text and as JSON."""

from __future__ import annotations

import json

import pytest

from auris.types import Transcript
from auris.writers import WRITERS, to_json, to_text


def transcript(text: str) -> Transcript:
    return Transcript(text, "English", (), 0.5, "stop", 1.0)


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "\n"), ("hello", "hello\n"), ("one\ntwo\r\nthree", "one two three\n"), ("好", "好\n")],
)
def test_text_is_one_line(text: str, line: str) -> None:
    assert to_text(transcript(text), "a.wav") == line


@pytest.mark.parametrize("text", ["", 'say "hi"\n', "你好 \u2028 é", "\x00"])
def test_json_is_one_line_that_reads_back(text: str) -> None:
    line = to_json(transcript(text), "dir/a.wav")
    assert line.count("\n") == 1
    assert line.endswith("}\n")
    content = json.loads(line)
    assert content.pop("file") == "dir/a.wav"
    assert content == transcript(text).to_dict()


def test_writers_by_suffix() -> None:
    assert dict(WRITERS) == {"txt": to_text, "json": to_json}
