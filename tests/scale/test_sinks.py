"""Merged results in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auris.errors import OutputError, UsageError
from auris.scale import sinks
from auris.scale.sinks import FORMATS, sink_format, write_merged
from auris.scale.storage import Storage

WORDS = [
    {"text": "hi", "start": 0.25, "end": 0.5, "confidence": 0.5, "repaired": False},
    {"text": "you", "start": None, "end": None, "confidence": None, "repaired": True},
]
SEGMENTS: list[dict[str, Any]] = [
    {"start": 0.0, "end": 1.0, "text": "hi you", "language": "English", "words": WORDS},
    {"start": 1.0, "end": 2.0, "text": "", "language": None},
    {"start": 2.0, "end": 2.5, "text": "ö", "language": "English", "speaker": "Ann"},
]
DONE = {"text": "hi you ö", "language": "English", "audio_seconds": 2.5, "segments": SEGMENTS}
ERROR = {"file": "b.wav", "error": "It is broken.", "kind": "UnreadableAudio"}
CUT = {"id": "c1", "recording_id": "rec", "start": 10.0, "duration": 2.5, "channel": 1}
ROWS = [{"file": "a.wav", "row": {"text": "hi"}, **DONE}, ERROR, {"file": "c1", "row": CUT, **DONE}]
LINES = [json.dumps(row).encode() + b"\n" for row in ROWS]


def written(form: str, folder: Path) -> list[dict[str, Any]]:
    out = folder / "out"
    assert write_merged(LINES, str(out), form) == 3
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_json_lines(address: str, tmp_path: Path) -> None:
    assert written("jsonl", tmp_path) == ROWS
    write_merged(LINES, f"{address}/merged.jsonl", "jsonl")
    assert Storage(address).read("merged.jsonl") == b"".join(LINES)


def test_a_nemo_manifest(tmp_path: Path) -> None:
    first, second, third = written("nemo", tmp_path)
    assert first == {
        "audio_filepath": "a.wav",
        "text": "hi",
        "duration": 2.5,
        "pred_text": "hi you ö",
        "pred_lang": "English",
    }
    assert (second["pred_text"], second["error"]) == ("", "It is broken.")
    assert (third["audio_filepath"], third["start"]) == ("c1", 10.0)


def test_lhotse_supervisions(tmp_path: Path) -> None:
    found = written("lhotse", tmp_path)
    assert [row["id"] for row in found] == ["a.wav-0", "a.wav-2", "c1-0", "c1-2"]
    assert found[2] == {
        "id": "c1-0",
        "recording_id": "rec",
        "start": 10.0,
        "duration": 1.0,
        "channel": 1,
        "text": "hi you",
        "language": "English",
        "alignment": {"word": [["hi", 10.25, 0.25, 0.5]]},
    }
    assert found[3]["speaker"] == "Ann"


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(sinks, "ROWS_WRITTEN", 2)
    assert write_merged(LINES, str(tmp_path / "t.parquet"), "parquet") == 3
    rows = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["file"] for row in rows] == ["a.wav", "b.wav", "c1"]
    assert [row["error"] for row in rows] == [None, "It is broken.", None]
    assert rows[0]["segments"][0]["words"][0]["start"] == 0.25
    assert rows[0]["segments"][2]["text"] == "ö"
    assert json.loads(rows[2]["row"]) == CUT
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2


def test_formats_by_name() -> None:
    assert sink_format("s3://b/a.parquet", None) == "parquet"
    assert sink_format("a.parquet", "nemo") == "nemo"
    for path, given in (("a.txt", None), ("a", "srt")):
        with pytest.raises(UsageError, match=f"one of {', '.join(FORMATS)}"):
            sink_format(path, given)


def test_a_full_disk_is_an_error_and_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("older")

    def full(lines: object, path: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(sinks._WRITERS, "jsonl", full)
    with pytest.raises(OutputError, match="No space left"):
        write_merged(LINES, str(tmp_path / "out"), "jsonl")
    assert (tmp_path / "out").read_text() == "older"


@pytest.mark.parametrize("form", ["parquet", "nemo", "lhotse"])
def test_half_surrogate_pairs_in_names_and_texts(form: str, tmp_path: Path) -> None:
    """Names of files that are no UTF-8 have them."""
    segment = {"start": 0.0, "end": 1.0, "text": "a\ud800", "language": "English"}
    row = {"file": "\udcff.wav", **DONE, "text": "a\ud800", "segments": [segment]}
    out = tmp_path / "out"
    if form == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    assert write_merged([json.dumps(row).encode() + b"\n"], str(out), form) == 1
    if form == "parquet":
        (found,) = parquet.read_table(out).to_pylist()
        assert (found["file"], found["text"], found["segments"][0]["text"]) == ("?.wav", "a?", "a?")
        return
    found = json.loads(out.read_text(encoding="utf-8"))
    name, text = ("id", "text") if form == "lhotse" else ("audio_filepath", "pred_text")
    assert found[name].startswith("\udcff.wav")
    assert found[text] == "a\ud800"
