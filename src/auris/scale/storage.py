"""Folders on any filesystem of fsspec, in which objects appear whole or not at all."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from auris.checkpoints.atomic import new_file
from auris.errors import MissingExtra, OutputError, UsageError

ATOMIC_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})
"""Protocols whose objects appear when their upload is complete. On others an object gets its name
by a rename."""


def fsspec_module() -> Any:
    """The package fsspec.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra(
            "Corpora on several machines need the extra scale",
            "the package fsspec is not installed",
            "run pip install 'auris-asr[scale]'",
        ) from error
    return fsspec


def filesystem(url: str) -> tuple[Any, str]:
    """The filesystem of an address, and the path in it.

    Raises:
        UsageError: there is no such filesystem, or its package is not installed.
    """
    fsspec = fsspec_module()
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UsageError(
            "An address has to be one of a filesystem that fsspec knows",
            f"that of {url!r} cannot be used ({error})",
            "correct the address, or install the package of the filesystem",
        ) from error
    return fs, path


def absolute(url: str) -> str:
    """An address as it is, or the absolute path of a path, for processes in other folders.

    Raises:
        UsageError: it is empty, which would be the working directory.
    """
    if not url.strip():
        raise UsageError("A path or an address may not be empty", "one is", "name it")
    return url if "://" in url else os.path.abspath(url)


def is_local(fs: Any) -> bool:
    """Whether a filesystem is that of this machine."""
    return "file" in _protocols(fs)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


class Storage:
    """A folder of small objects, named by relative paths with slashes.

    Args:
        url: the folder; it is made where the filesystem has folders.

    Raises:
        UsageError: there is no such filesystem.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = filesystem(url)
        self._local = is_local(self._fs)
        self._atomic = any(protocol in ATOMIC_PUTS for protocol in _protocols(self._fs))

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        return self._range(name, None, None)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes of an object that exists.

        Raises:
            OutputError: it does not exist.
        """
        data = self._range(name, start, end)
        if data is None:
            raise OutputError(
                f"{name!r} has to exist in {self.url!r}", "it does not", "begin the run anew"
            )
        return data

    def _range(self, name: str, start: int | None, end: int | None) -> bytes | None:
        with self._errors(name):
            try:
                data: bytes = self._fs.cat_file(self._path(name), start=start, end=end)
            except FileNotFoundError:
                return None
        return data

    def exists(self, name: str) -> bool:
        """Whether there is an object."""
        with self._errors(name):
            return bool(self._fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """Names of the objects in a folder, without it; none if there is no such folder."""
        with self._errors(folder):
            try:
                paths = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = [posixpath.basename(path) for path in paths]
        return sorted(name for name in names if name and not name.startswith("."))

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole, in place of an older one.

        Raises:
            OutputError: it cannot be written; an older one stays.
        """
        path = self._path(name)
        with self._errors(name):
            if self._local:
                with new_file(Path(path)) as file:
                    file.write(data)
            else:
                with self._atomically(path) as target:
                    self._fs.pipe_file(target, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; returns whether it was written.

        Of several processes that do so at once only one succeeds, where the filesystem can ensure
        that: on local disks, in memory, and on object storage with conditional puts.
        """
        path = self._path(name)
        with self._errors(name):
            if self._local:
                return self._create_local(Path(path), data)
            try:
                self._fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except Exception:  # Storages refuse a conditional put with errors of their own.
                if self._fs.exists(path):
                    return False
                raise
        return True

    def _create_local(self, path: Path, data: bytes) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(self._draft(str(path)))
        try:
            with open(draft, "xb") as file:
                file.write(data)
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""
        with self._errors(name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def upload(self, file: Path, name: str) -> None:
        """Write a file of this machine as an object, whole.

        Raises:
            OutputError: it cannot be written; an older one stays.
        """
        path = self._path(name)
        with self._errors(name):
            if self._local:
                with open(file, "rb") as source, new_file(Path(path)) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            else:
                with self._atomically(path) as target:
                    self._fs.put_file(str(file), target)

    @contextmanager
    def _atomically(self, path: str) -> Iterator[str]:
        """Where to write an object of a filesystem that is not local, so that it appears when it is
        complete: in its place, or next to it, from where it is moved."""
        target = path if self._atomic else self._draft(path)
        yield target
        if not self._atomic:
            self._fs.mv(target, path)

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _draft(self, path: str) -> str:
        folder, name = posixpath.split(path.replace(os.sep, "/"))
        return posixpath.join(folder, f".{name}.{uuid4().hex[:8]}.part")

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Convert errors of the filesystem."""
        try:
            yield
        except Exception as error:  # Packages of filesystems raise errors of their own.
            raise self._failed(name, error) from error

    def _failed(self, name: str, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return OutputError(
            f"Reading or writing {name!r} in {self.url!r} failed ({' '.join(reason.split())})",
            "",
            "check the address, the permissions and the network; what is finished stays",
        )
