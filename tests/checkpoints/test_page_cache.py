"""Weight files are read into memory in large pages, and written ones leave it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auris.checkpoints.page_cache import LARGE_PAGE, WINDOW, drop, read_in_large_pages

linux = pytest.mark.skipif(sys.platform != "linux", reason="a page cache of Linux")


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in memory."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no fincore")
    return int(found.stdout)


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
    assert cached_bytes(path) >= size
    read_in_large_pages(path)


@pytest.mark.parametrize("name", ["absent", "empty", "."])
def test_what_cannot_be_mapped_is_left_to_what_loads_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    read_in_large_pages(tmp_path / name)
