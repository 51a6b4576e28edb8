"""Sources: what they list, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from auris.audio.io import load
from auris.errors import UnreadableAudio, UsageError
from auris.scale.plan import divided
from auris.scale.rows import StorageFailures, StoredFile, audio_rows
from auris.scale.sources import units
from auris.scale.storage import Storage
from auris.scale.units import SECONDS_A_ROW, InputUnit
from tests.audio.media import wav
from tests.tiny_models import tone_speech


def audio(seconds: float, seed: int = 0) -> bytes:
    return wav(tone_speech(seconds, seed)[None])


def manifest(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def names(source: str, **options: Any) -> list[str]:
    return [unit.name for unit in units(source, **options)]


def lengths(listed: list[InputUnit], portable: bool = False) -> dict[str, int]:
    """The recordings of units by name, with their lengths in milliseconds."""
    rows = audio_rows(listed, portable=portable)
    return {row.name: round(1000 * load(row.source).seconds) for row in rows}


def test_folders_and_patterns(address: str) -> None:
    storage = Storage(address)
    for name in ("a.wav", "more/b.flac", "more/deep/c.opus", "more/notes.txt", ".hidden/d.wav"):
        storage.put(name, audio(0.5))
    found = list(units(address))
    assert [unit.name for unit in found] == ["a.wav", "more/b.flac", "more/deep/c.opus"]
    assert {unit.basis for unit in found} == {"bytes"}
    assert [unit.uri.rpartition("/")[2] for unit in units(f"{address}/**/*.opus")] == ["c.opus"]
    assert lengths(found) == {unit.name: 500 for unit in found}
    headers = list(units(address, headers=True))
    assert [unit.seconds for unit in headers] == [0.5] * 3
    with pytest.raises(UsageError, match="no recordings"):
        list(units(f"{address}/*.mp3"))


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio(0.5))
    (tmp_path / "list.txt").write_text(f"a.wav\n\n{tmp_path}/a.wav\nhttps://host.example/b.wav\n")
    listed = list(units(str(tmp_path / "list.txt")))
    assert [unit.uri for unit in listed] == [
        *[str(tmp_path / "a.wav")] * 2,
        "https://host.example/b.wav",
    ]
    assert listed[0].weight == SECONDS_A_ROW
    with gzip.open(tmp_path / "list.txt.gz", "wt") as file:
        file.write("a.wav\n")
    assert names(str(tmp_path / "list.txt.gz")) == ["a.wav"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match="no recordings"):
        list(units(str(tmp_path / "empty.txt")))
    with pytest.raises(UsageError, match="has to be readable"):
        list(units(str(tmp_path / "missing.txt")))


def test_nemo_manifests(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio(3.0))
    rows = [
        {"audio_filepath": "a.wav", "duration": 3.0, "text": "one"},
        {"audio_filepath": "a.wav", "offset": 1.0, "duration": 0.5, "speaker": "x"},
    ]
    listed = list(units(manifest(tmp_path / "m.jsonl", rows)))
    assert lengths(listed) == {"a.wav": 3000, "a.wav#1.0": 500}
    assert [unit.seconds for unit in listed] == [3.0, 0.5]
    assert listed[0].fields == {"audio_filepath": "a.wav", "duration": 3.0, "text": "one"}
    assert InputUnit.from_json(listed[1].to_json()) == listed[1]


def test_lhotse_cuts(tmp_path: Path) -> None:
    stereo = wav(tone_speech(2.0, 1)[None].repeat(2, 0))
    (tmp_path / "a.wav").write_bytes(stereo)
    source = {"type": "file", "channels": [0, 1], "source": "a.wav"}
    recording = {"id": "rec", "sources": [source], "duration": 2.0, "sampling_rate": 16000}
    cut = {"id": "c1", "start": 0.5, "duration": 1.0, "channel": 1, "type": "MonoCut"}
    cuts = [
        {**cut, "recording": recording, "supervisions": [{"text": "hello"}, {"text": "there"}]},
        {**cut, "id": "c2", "recording": recording, "channel": 7},
        {"id": "c3", "type": "MixedCut", "tracks": []},
    ]
    listed = list(units(manifest(tmp_path / "cuts.jsonl", cuts), source_format="lhotse"))
    assert listed == list(units(manifest(tmp_path / "cuts.jsonl", cuts)))
    assert lengths(listed[:1]) == {"c1": 1000}
    assert listed[0].fields["text"] == "hello there"
    for number, message in ((1, "channel 7 is chosen of 2"), (2, "no recording in a file")):
        (row,) = audio_rows([listed[number]])
        with pytest.raises(Exception, match=message):
            load(row.source)


def test_parts_without_audio_are_rows_with_an_error(tmp_path: Path) -> None:
    recording = {"id": "rec", "sources": [{"type": "file", "source": "a.wav"}]}
    rows = [
        {"audio_filepath": "a.wav", "offset": 1.0, "duration": 0},
        {"id": "c1", "start": 1.0, "duration": 0.0, "recording": recording},
        {"audio_filepath": "a.wav", "duration": 0},
    ]
    listed = list(units(manifest(tmp_path / "rows.jsonl", rows)))
    assert [unit.fault for unit in listed] == ["the duration of a part is 0"] * 2 + [""]


def test_values_of_cuts_that_are_no_texts_are_left_out(tmp_path: Path) -> None:
    recording = {"id": "rec", "sources": [{"type": "file", "source": "a.wav"}]}
    cut = {"id": "c1", "start": 0, "duration": 1, "recording": recording}
    said = {"text": "hello", "speaker": ["ann"], "language": "en"}
    unnamed = {"id": "rec", "sources": [{"type": "file", "source": 5}]}
    rows = [{**cut, "supervisions": [said, said]}, {**cut, "recording": unnamed}]
    listed = list(units(manifest(tmp_path / "cuts.jsonl", rows)))
    assert "speaker" not in listed[0].fields
    assert listed[0].fields["language"] == "en"
    assert "no recording in a file" in listed[1].fault


LIST = b"a.wav\n" * 2000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.txt.gz", gzip.compress(LIST, mtime=0)[:-20]),
        ("none.txt.gz", LIST),
        ("none.txt.xz", LIST),
        ("none.txt.bz2", LIST),
        ("deep.jsonl", b"[" * 100_000),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError):
        list(units(str(tmp_path / name)))


def test_a_list_in_a_compression_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setattr("fsspec.utils.infer_compression", lambda path: None)
    with pytest.raises(UsageError, match=r"Reading \.zst files needs the package"):
        list(units(str(tmp_path / "list.txt.zst")))


def test_an_address_that_no_filesystem_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match="has to be readable"):
        list(units("a\0b"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "no path"}, "line 1 of .* it has no audio_filepath"),
        ({"audio_filepath": "a", "duration": -1}, "its duration is -1"),
        ({"recording": {}, "start": 0}, "it has no id"),
        (["a"], "it is no JSON object"),
        ({"audio_filepath": "a", "duration": 10**400}, "its duration is 1000"),
        ({"audio_filepath": "a", "offset": True}, "its offset is True"),
    ],
)
def test_a_wrong_line_of_a_manifest_is_refused(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"(?i){message}"):
        list(units(manifest(tmp_path / "m.jsonl", [row])))


def test_tar_shards(address: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in (("a.wav", audio(0.5)), ("a.json", b"{}"), ("b.wav", audio(0.75))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    storage = Storage(address)
    storage.put("t/one.tar", content.getvalue())
    listed = list(units(f"{address}/t/*.tar"))
    assert [(unit.kind, unit.size) for unit in listed] == [("tar", len(content.getvalue()))]
    expected = {f"{listed[0].uri}/a.wav": 500, f"{listed[0].uri}/b.wav": 750}
    assert lengths(listed) == lengths(listed, portable=True) == expected
    # A file that breaks off has the recordings before that, and one row with the error.
    storage.put("t/one.tar", content.getvalue()[:20_000])
    rows = list(audio_rows(listed))
    assert [row.name for row in rows] == [f"{listed[0].uri}/a.wav", listed[0].uri]
    with pytest.raises(Exception, match="cannot be read further"):
        load(rows[1].source)


def test_parquet_files(address: str, tmp_path: Path) -> None:
    arrow, parquet = (pytest.importorskip(f"pyarrow{end}") for end in ("", ".parquet"))
    storage = Storage(address)
    storage.put("d/far.wav", audio(1.25))
    cells: list[Any] = [
        {"bytes": audio(0.5), "path": "near.wav"},
        {"bytes": None, "path": "far.wav"},
        {"bytes": audio(0.75), "path": None},
        None,
    ]
    columns = {"audio": cells, "duration": [0.5, 1.25, 0.75, 0.0], "text": ["a", "b", None, "d"]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet", row_group_size=2)
    storage.upload(tmp_path / "t.parquet", "d/t.parquet")
    listed = list(units(f"{address}/d/t.parquet"))
    assert [(unit.group, unit.rows, unit.seconds) for unit in listed] == [
        (0, 2, 1.75),
        (1, 2, 0.75),
    ]
    uri = listed[0].uri
    found = lengths([listed[0]])
    assert found == {"near.wav": 500, "far.wav": 1250}
    third, fourth = audio_rows(listed[1:])
    assert (third.name, fourth.name) == (f"{uri}#1.0", f"{uri}#1.1")
    assert fourth.fields == {"text": "d", "duration": 0.0}
    with pytest.raises(Exception, match="A cell with audio has to hold"):
        load(fourth.source)
    with pytest.raises(UsageError, match="the columns audio, duration, text, and not 'sound'"):
        list(units(f"{address}/d/t.parquet", column="sound"))
    storage.put("d/bad.parquet", b"no table")
    with pytest.raises(UsageError, match=r"bad\.parquet' is not"):
        list(units(f"{address}/d/bad.parquet"))
    # One of several is a row with an error.
    several = list(units(f"{address}/d"))
    assert [unit.kind for unit in several] == ["file", "file", "parquet", "parquet"]
    (row,) = audio_rows(several[:1])
    with pytest.raises(UnreadableAudio, match=r"readable files, but .*bad\.parquet' is not"):
        load(row.source)
    # A file that is damaged after the run was planned is one row with an error.
    storage.put("d/t.parquet", b"no table")
    (row,) = audio_rows(listed[:1])
    with pytest.raises(Exception, match="Row group 0 of a Parquet file cannot be read"):
        load(row.source)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="has to be one of auto, files"):
        units("a", source_format="word")


def test_shards_by_seconds_bytes_and_rows() -> None:
    listed = [InputUnit("file", f"s{n}", seconds=2.0) for n in range(5)]
    listed += [InputUnit("file", "b", size=160_000), InputUnit("file", "r")]
    basis: Counter[str] = Counter()
    file = io.BytesIO()
    shards = list(divided(listed, 5.0, file, basis))
    assert [(shard.units, shard.seconds) for shard in shards] == [
        (2, 4.0),
        (2, 4.0),
        (1, 2.0),
        (1, 10.0),
        (1, SECONDS_A_ROW),
    ]
    assert basis == {"seconds": 5, "bytes": 1, "rows": 1}
    data = file.getvalue()
    again = [data[shard.offset : shard.offset + shard.length] for shard in shards]
    assert b"".join(again) == data
    # Names depend on the inputs alone.
    changed = [*listed[:4], InputUnit("file", "other", seconds=2.0), *listed[5:]]
    others = list(divided(changed, 5.0, io.BytesIO(), basis))
    same = [a.name == b.name for a, b in zip(shards, others, strict=True)]
    assert same == [True, True, False, True, True]


def test_headers_that_cannot_be_read_leave_durations_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    class RequestError(Exception):
        """Packages of filesystems have errors of their own."""

    def fail(*_: Any) -> Any:
        raise RequestError("try again later")

    Storage("memory://headers").put("a.wav", audio(1.0))
    (tmp_path / "list.txt").write_text("memory://headers/a.wav\n")
    monkeypatch.setattr(MemoryFileSystem, "open", fail)
    listed = list(units(str(tmp_path / "list.txt"), headers=True))
    assert [unit.seconds for unit in listed] == [None]


def test_failures_of_a_filesystem_are_noted_unless_they_would_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    Storage("memory://noted").put("a.wav", audio(1.0))
    failures = StorageFailures()
    with pytest.raises(FileNotFoundError):
        StoredFile("memory://noted/b.wav", failures=failures)()
    assert not failures.errors

    def fail(*_: Any) -> Any:
        raise ConnectionResetError("reset")

    file = StoredFile("memory://noted/a.wav", failures=failures)()
    monkeypatch.setattr(MemoryFile, "read", fail)
    with pytest.raises(ConnectionResetError):
        file.read()
    monkeypatch.setattr(MemoryFileSystem, "open", fail)
    with pytest.raises(ConnectionResetError):
        StoredFile("memory://noted/a.wav", failures=failures)()
    assert len(failures.errors) == 2
    assert failures.first() == "reset"


def test_failures_noted_by_copies_are_found(tmp_path: Path) -> None:
    failures = StorageFailures(tmp_path)
    copy = pickle.loads(pickle.dumps(failures))
    assert failures.first() is None
    copy.note(FileNotFoundError("missing"))
    assert failures.first() is None
    copy.note(ConnectionResetError("reset"))
    assert failures.first() == "reset"
