"""The recordings of a shard, each opened when it is read."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from auris.audio.encoded import is_data_uri
from auris.audio.io import Excerpt, Source
from auris.audio.listing import MEDIA
from auris.audio.remote import is_url
from auris.errors import AurisError, UnreadableAudio
from auris.scale.parquet import parquet_cells
from auris.scale.sources import resolved
from auris.scale.storage import filesystem, is_local
from auris.scale.units import InputUnit

PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    tarfile.TarError,
    ValueError,
)
"""Failures that trying again does not mend: of filesystems, and of damaged containers."""


@dataclass(frozen=True)
class AudioRow:
    """A recording of a shard.

    Attributes:
        name: what results call it.
        source: its audio.
        fields: values that results repeat.
    """

    name: str
    source: Source
    fields: Mapping[str, Any] = field(default_factory=dict)


class StorageFailures:
    """Failures of filesystems that may be over when a shard is tried again.

    Args:
        folder: an empty folder in which processes that read recordings ahead note theirs; they get
            a copy of this object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.errors: list[Exception] = []
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return StorageFailures, (self._folder,)

    def note(self, error: Exception) -> None:
        """Remember an error, unless it would come again.

        Packages of filesystems raise errors of their own for failures of the network, so all other
        kinds count.
        """
        if isinstance(error, (AurisError, *PERMANENT)):
            return
        self.errors.append(error)
        if self._folder is not None:
            (self._folder / uuid4().hex).write_text(str(error), encoding="utf-8")

    def first(self) -> str | None:
        """What one of the errors says; None if there is none."""
        if self.errors:
            return str(self.errors[0])
        if self._folder is not None:
            for file in self._folder.iterdir():
                return file.read_text(encoding="utf-8")
        return None


@dataclass(frozen=True)
class StoredFile:
    """Opens a file of any filesystem, or a stretch of its bytes.

    Attributes:
        uri: its address.
        offset, size: the stretch; all of it by default.
        failures: where failures of the filesystem are noted.
    """

    uri: str
    offset: int = 0
    size: int | None = None
    failures: StorageFailures | None = None

    def __call__(self) -> IO[bytes]:
        try:
            fs, path = filesystem(self.uri)
            if is_local(fs) and self.size is None:
                return _regular_file(path)
            file: Any = _Stretch(fs.open(path, "rb"), self.offset, self.size, self.failures)
        except Exception as error:  # Packages of filesystems raise errors of their own.
            if self.failures is not None:
                self.failures.note(error)
            raise
        return io.BufferedReader(file, 1 << 16)


def _regular_file(path: str) -> IO[bytes]:
    """Open a file of this machine; opening a pipe would wait for another program."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableAudio(
            "A recording of a corpus has to be a file", "it is no regular file", "leave it out"
        )
    return open(path, "rb")


class _Stretch(io.RawIOBase):
    """A stretch of an open file as a file of its own."""

    def __init__(
        self, file: IO[bytes], offset: int, size: int | None, failures: StorageFailures | None
    ) -> None:
        self._file, self._offset, self._failures = file, offset, failures
        self._size = file.seek(0, io.SEEK_END) - offset if size is None else size
        self._position = 0
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._size - self._position)
        if size <= 0:
            return 0
        try:
            data = self._file.read(size)
        except Exception as error:  # Packages of filesystems raise errors of their own.
            if self._failures is not None:
                self._failures.note(error)
            raise
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._position = base + offset
        self._file.seek(self._offset + self._position)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def audio_rows(
    units: Iterable[InputUnit], failures: StorageFailures | None = None, portable: bool = False
) -> Iterator[AudioRow]:
    """The recordings of units, in order.

    A container that cannot be read further ends with a row whose source cannot be opened.

    Args:
        failures: where failures of filesystems are noted.
        portable: whether other processes read the sources.
    """
    for unit in units:
        if unit.fault:
            yield AudioRow(
                unit.name,
                unreadable_source(
                    UnreadableAudio(
                        "A corpus has to consist of readable files", unit.fault, "leave it out"
                    )
                ),
                unit.fields,
            )
        elif unit.kind == "file":
            source = file_source(unit.uri, failures)
            yield AudioRow(unit.name or unit.uri, _excerpt(unit, source), unit.fields)
        else:
            yield from _contained(unit, failures, portable)


def _contained(
    unit: InputUnit, failures: StorageFailures | None, portable: bool
) -> Iterator[AudioRow]:
    try:
        if unit.kind == "parquet":
            yield from parquet_rows(unit, failures)
        else:
            yield from _tar_rows(unit, failures, portable)
    except Exception as error:  # Packages of filesystems raise errors of their own.
        if failures is not None:
            failures.note(original_error(error))
        if isinstance(error, AurisError):
            failure = error
        else:
            failure = UnreadableAudio(
                f"The file {unit.uri!r} cannot be read further ({error})", "", "get it anew"
            )
        yield AudioRow(unit.uri, unreadable_source(failure))


def original_error(error: Exception) -> Exception:
    """The error that an error of this package was raised for, or the error itself."""
    while isinstance(error, AurisError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def parquet_rows(unit: InputUnit, failures: StorageFailures | None) -> Iterator[AudioRow]:
    """The rows of a row group."""
    for name, audio, fields in parquet_cells(unit):
        if isinstance(audio, str):
            source = file_source(resolved(audio, unit.uri), failures)
        else:
            source = cell_source(audio)
        yield AudioRow(name, source, fields)


def _tar_rows(
    unit: InputUnit, failures: StorageFailures | None, portable: bool
) -> Iterator[AudioRow]:
    """The members of a tar file with the suffix of a recording, read one after the other."""
    with StoredFile(unit.uri, failures=failures)() as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # Else all headers stay in memory.
            if not member.isfile() or posixpath.splitext(member.name.lower())[1] not in MEDIA:
                continue
            name = f"{unit.uri}/{member.name}"
            if portable:
                opener: Any = StoredFile(unit.uri, member.offset_data, member.size, failures)
                yield AudioRow(name, Excerpt(opener, portable=_is_shared(unit.uri)))
            else:
                yield AudioRow(name, Excerpt(partial(_member, tar, member), portable=False))


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # It is a regular file.
    return file


def cell_source(cell: Any, base: str = "") -> Source:
    """The source of a cell of a table.

    Args:
        cell: a path, an address, bytes, `{"bytes", "path"}` or `{"array", "sampling_rate"}`.
        base: file whose folder relative paths begin in.
    """
    if isinstance(cell, dict) and cell.get("array") is not None:
        return cell["array"], cell["sampling_rate"]
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, str):
        return file_source(resolved(str(cell), base))
    if isinstance(cell, bytes):
        return Excerpt(cell)
    return unreadable_source(
        UnreadableAudio(
            "A cell with audio has to hold a path, an address, bytes or an array",
            f"its type is {type(cell).__name__}",
            "leave the row out",
        )
    )


def file_source(uri: str, failures: StorageFailures | None = None) -> Source:
    """The source of a path or an address; addresses of the web are fetched as usual."""
    if is_url(uri) or is_data_uri(uri):
        return uri
    return Excerpt(StoredFile(uri, failures=failures), portable=_is_shared(uri))


def _is_shared(uri: str) -> bool:
    """Whether other processes can open an address."""
    return not uri.startswith("memory:")


def _excerpt(unit: InputUnit, source: Source) -> Source:
    if unit.start == 0.0 and unit.duration is None and unit.channel is None:
        return source
    if isinstance(source, Excerpt):
        return Excerpt(source.source, unit.start, unit.duration, unit.channel, source.portable)
    return Excerpt(source, unit.start, unit.duration, unit.channel)


def unreadable_source(error: AurisError) -> Excerpt:
    """A source that fails with an error when it is read."""
    return Excerpt(partial(_fail, error), portable=False)


def _fail(error: AurisError) -> IO[bytes]:
    raise error
