"""Weight files are read into memory in large pages, and written ones leave it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auris.checkpoints.page_cache import WINDOW, drop, read_in_large_pages
from auris.checkpoints.quantize import quantize
from auris.checkpoints.weight_files import SINGLE
from auris.models.pages import LARGE_PAGE
from auris.recognition.load import load_model
from tests.tiny_models import write_tiny

linux = pytest.mark.skipif(sys.platform != "linux", reason="a page cache of Linux")


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in memory."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no fincore")
    return int(found.stdout)


def mapped_in_large_pages(path: Path) -> int:
    """Bytes of a file that a mapping of it has in large pages, once all are touched."""
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        sum(mapped[:: mmap.PAGESIZE])
        for mapping in Path("/proc/self/smaps").read_text().split("VmFlags"):
            if str(path) in mapping and "FilePmdMapped:" in mapping:
                return int(mapping.split("FilePmdMapped:")[1].split()[0]) << 10
    return 0


@linux
@pytest.mark.parametrize("size", [1, LARGE_PAGE + 1, WINDOW + 3 * LARGE_PAGE + 5])
def test_a_file_that_was_written_leaves_memory_and_comes_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    with path.open("wb") as out:
        out.write(os.urandom(size))
        drop(out)
    if cached_bytes(path) > 0:
        pytest.skip("files of this filesystem stay in memory")
    read_in_large_pages(path)
    assert cached_bytes(path) > 0
    large = mapped_in_large_pages(path)
    if size > WINDOW and large == 0:
        pytest.skip("the system or this filesystem has no large pages of files")
    assert large >= size // LARGE_PAGE * LARGE_PAGE - 2 * LARGE_PAGE


@pytest.mark.parametrize("name", ["absent", "empty", "."])
def test_what_cannot_be_mapped_is_left_to_what_loads_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    read_in_large_pages(tmp_path / name)


def test_only_quantized_directories_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("auris.checkpoints.packed_files.read_in_large_pages", read.append)
    plain, packed = write_tiny(tmp_path / "plain"), quantize(tmp_path / "plain", tmp_path / "int8")
    load_model(plain, device="cpu", dtype="float32")
    load_model(plain, device="cpu", dtype="int8")  # Packed tensor by tensor.
    assert read == []
    load_model(packed, device="cpu")
    assert read == [packed / SINGLE]
