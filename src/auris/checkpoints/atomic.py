"""Files and directories that get their names only when they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from safetensors import SafetensorError

from auris.errors import OutputError, UsageError

NEW, OLD = ".new", ".old"
"""What `replace_directory` appends to a name: while the new directory is written, and to the older
one before it is removed."""


class NewFile:
    """A file that replaces an older one only when it is complete.

    Until then it has another name in the same directory, which is made where it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        # Where the name is a link, the file that it leads to is replaced.
        self._target = Path(os.path.realpath(path))
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._draft = self._target.with_name(f".{self._target.name}.{uuid4().hex[:8]}.part")
        # Without a buffer, so that nothing is left to be written when it is closed.
        self._file = open(self._draft, "xb", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """Add bytes; OSError where there is no room."""
        write_all(self._file, data)

    def commit(self) -> None:
        """Give the file its name; OSError where it cannot have it."""
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._draft, self._target)

    def discard(self) -> None:
        """Remove what was written; the older file stays."""
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def keep(self) -> Path:
        """Leave what was written next to the older file; returns its path, or raises OSError."""
        self._file.close()
        partial = self._target.with_name(f"{self._target.name}.part")
        os.replace(self._draft, partial)
        return partial


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take fewer at once."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


@contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """A file that replaces an older one when the block ends without an error.

    Raises:
        OSError: it cannot be written; the older one stays.
    """
    fresh = NewFile(path)
    try:
        yield fresh
        fresh.commit()
    except BaseException:
        fresh.discard()
        raise


@contextmanager
def new_directory(out: str | Path) -> Iterator[Path]:
    """A draft of a directory, which gets its name when the block ends without an error.

    Raises:
        UsageError: it exists and is not empty.
        OutputError: it cannot be written; nothing is left of it.
    """
    target = Path(out)
    draft = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(
                "The output has to be a new or empty directory",
                f"{str(target)!r} is not",
                "name another, or remove it first",
            )
        draft.mkdir(parents=True)
        yield draft
        if os.name == "nt" and target.exists():
            target.rmdir()  # Elsewhere an empty directory gives way by itself.
        draft.rename(target)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"Writing {str(target)!r} failed ({error})",
            "",
            "name another, or make room there",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """A new directory that replaces an older one when the block ends without an error.

    Where a process ends between the renames, the older one is left as PATH.old and
    `current_directory` finds it.

    Raises:
        OSError: it cannot be written; the older one stays.
    """
    fresh, old = (path.with_name(path.name + end) for end in (NEW, OLD))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        for file in fresh.iterdir():  # On the disk before the older one goes.
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def current_directory(path: Path) -> Path:
    """The directory that `replace_directory` wrote last."""
    old = path.with_name(path.name + OLD)
    return old if old.exists() and not path.exists() else path
