"""Objects appear whole or not at all, and exclusive creation succeeds once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from auris.errors import OutputError, UsageError
from auris.scale import storage as storage_module
from auris.scale.storage import Storage, absolute, filesystem


def test_objects(address: str, tmp_path: Path) -> None:
    storage = Storage(address)
    assert storage.read("a/b") is None
    assert not storage.exists("a/b")
    assert storage.names("a") == []
    storage.put("a/b", b"one")
    storage.put("a/b", b"another")
    storage.put("a/c", b"")
    assert storage.read("a/b") == b"another"
    assert storage.read_range("a/b", 2, 5) == b"oth"
    assert storage.exists("a/b")
    assert storage.names("a") == ["b", "c"]
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    storage.upload(tmp_path / "file", "a/d")
    assert storage.read("a/d") == b"x" * 100_000
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.names("a") == ["c", "d"]
    with pytest.raises(OutputError, match="'a/b' has to exist"):
        storage.read_range("a/b", 0, 1)


def test_one_of_many_threads_creates_an_object(address: str) -> None:
    storage = Storage(address)
    created: list[int] = []
    barrier = threading.Barrier(6)

    def create(number: int) -> None:
        barrier.wait()
        if storage.create("lease.0", str(number).encode()):
            created.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(created) == 1
    assert storage.read("lease.0") == str(created[0]).encode()
    assert storage.names("") == ["lease.0"]


def test_a_filesystem_without_whole_puts_renames(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage_module, "ATOMIC_PUTS", frozenset())
    storage = Storage("memory://renamed")
    storage.put("a", b"one")
    (tmp_path / "file").write_bytes(b"two")
    storage.upload(tmp_path / "file", "b")
    assert (storage.read("a"), storage.read("b")) == (b"one", b"two")
    assert storage.names("") == ["a", "b"]


def test_failures_name_the_object_and_keep_what_was_there(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="writing 'folder' in"):
        storage.put("folder", b"x")
    with pytest.raises(OutputError, match="Reading or writing 'folder'"):
        storage.read("folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_unknown_filesystem_is_refused() -> None:
    with pytest.raises(UsageError, match="fsspec knows"):
        filesystem("nothing://bucket/a")


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("calls/*.wav") == str(tmp_path / "calls" / "*.wav")
    assert absolute("s3://bucket/calls") == "s3://bucket/calls"
