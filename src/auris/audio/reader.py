"""The file object that PyAV reads a source from."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import sys
import tempfile
from bisect import bisect_left
from contextlib import ExitStack
from typing import IO, NoReturn, cast

from auris.audio.encoded import from_data_uri, is_data_uri
from auris.audio.formats import MP4_BOXES
from auris.audio.remote import WebLimits, fetched, is_url
from auris.errors import UnreadableAudio, UsageError

_PEEKED = 1 << 20  # Bytes at a pipe's beginning that can be read again.

OPEN_PIPES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Paths of files that this process has open already."""


class Reader:
    """What PyAV reads from. Only file objects are handed to it, so that a name can never lead
    ffmpeg to the network or to another file."""

    def __init__(self, file: IO[bytes], stack: ExitStack) -> None:
        self.failure: Exception | None = None
        self.interrupted: KeyboardInterrupt | None = None
        self._file = file
        self._origin = self._position()
        self._pending = b""
        self._head = bytearray()
        self._hidden: list[int] = []
        if self._origin is None:
            # MP4 keeps its index anywhere, so it is the one common kind that needs seeking.
            while len(self._pending) < 12 and (more := self._checked(file.read(12))):
                self._pending += more
            if self._pending[4:8] in MP4_BOXES:
                spool = tempfile.SpooledTemporaryFile(max_size=1 << 26)  # noqa: SIM115
                stack.callback(spool.close)
                spool.write(self._pending)
                shutil.copyfileobj(file, spool)
                spool.seek(0)
                self._file, self._origin, self._pending = spool, 0, b""

    def _position(self) -> int | None:
        try:
            seekable = getattr(self._file, "seekable", None)
            if seekable is not None and not seekable():
                return None
            return self._file.seek(self._file.tell())
        except (OSError, ValueError, AttributeError):
            return None

    def _checked(self, data: object) -> bytes:
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        raise UsageError(
            "A file has to yield bytes",
            f"this one yields {type(data).__name__}",
            "open it in binary mode",
        )

    def check_interrupted(self) -> None:
        """Raise the KeyboardInterrupt that came while PyAV was reading, which would drop it."""
        if self.interrupted is not None:
            raise self.interrupted

    def seekable(self) -> bool:
        """Whether the source can be read from any offset."""
        return self._origin is not None

    def read(self, size: int) -> bytes:
        """The next bytes; b"" at the end."""
        if self.interrupted is not None:
            return b""
        try:
            begin = self.tell() if self._hidden else 0
            data = self._pending or self._checked(self._file.read(size))
        except KeyboardInterrupt as error:
            self.interrupted = error
            return b""
        except Exception as error:  # A file object of the caller may raise any error.
            self.failure = error  # PyAV loses it where ffmpeg takes a failure for the end.
            raise
        self._pending = b""
        if self._origin is None and len(self._head) < _PEEKED:
            self._head += data
        return self._without_hidden(data, begin) if self._hidden else data

    def hide(self, offset: int) -> None:
        """Let PyAV read zeros in place of the 4 bytes at an offset.

        Args:
            offset: behind those that were hidden before.
        """
        self._hidden.append(offset)

    def _without_hidden(self, data: bytes, begin: int) -> bytes:
        changed = bytearray(data)
        for offset in self._hidden[bisect_left(self._hidden, begin - 3) :]:
            if offset >= begin + len(data):
                break
            for at in range(max(offset, begin), min(offset + 4, begin + len(data))):
                changed[at - begin] = 0
        return bytes(changed)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset, counted from where the source stood when it was given; -1 if that is
        none, as damaged headers have it: what is raised here, PyAV prints on its own."""
        try:
            return self._seek(offset, whence)
        except (ValueError, OverflowError):
            return -1
        except KeyboardInterrupt as error:
            self.interrupted = error
            return -1
        except OSError as error:
            if error.errno == errno.EINVAL:
                return -1
            raise

    def _seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = self._origin or 0
        return self._file.seek(offset + (origin if whence == io.SEEK_SET else 0), whence) - origin

    def tell(self) -> int:
        """The present offset."""
        return self._file.tell() - (self._origin or 0)

    def size(self) -> int:
        """Bytes of a source that is seekable."""
        position = self.tell()
        end = self._seek(0, io.SEEK_END)
        self._seek(position)
        return end

    def peek(self, offset: int, size: int) -> bytes:
        """Bytes at `offset`, from the end if negative, without moving; b"" where unknown."""
        if self._origin is None:
            return bytes(self._head[offset : offset + size]) if offset >= 0 else b""
        try:
            position = self.tell()
            end = self._seek(0, io.SEEK_END)
            self._seek(offset if offset >= 0 else max(0, end + offset))
            data = self._checked(self._file.read(size))
            self._seek(position)
        except Exception as error:  # A file object of the caller may raise any error.
            self.failure = error
            return b""
        return data


def open_file(source: object, name: str, stack: ExitStack, urls: WebLimits | None) -> IO[bytes]:
    """The file object of a source that is no array; closed with `stack` if opened here.

    Raises:
        UnreadableAudio: there is no such file, or it cannot be opened or fetched.
        UsageError: it is an address, and `urls` is None.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if isinstance(source, str) and is_url(source):
        return fetched(source, name, urls, stack)
    if isinstance(source, str) and is_data_uri(source):
        return io.BytesIO(from_data_uri(source))
    if not isinstance(source, (str, os.PathLike)):
        return source  # type: ignore[return-value]
    if os.fspath(source) == "-":
        return standard_input()
    try:
        if not _opens_at_once(source):
            unreadable(
                f"{name} is a named pipe, a socket or a device",
                "a recording has to be a regular file or an open pipe",
                "pipe its sound into the standard input and pass -",
            )
        return stack.enter_context(open(source, "rb"))
    except FileNotFoundError:
        unreadable(f"{name} does not exist", "", "check the path")
    except UnreadableAudio:
        raise
    except IsADirectoryError:
        unreadable(f"{name} is a directory", "a recording is a file", "name a file inside it")
    except (OSError, ValueError) as error:
        unreadable(
            f"{name} cannot be opened ({getattr(error, 'strerror', None) or error})",
            "",
            "check the path and its permissions",
        )


def _opens_at_once(path: str | os.PathLike[str]) -> bool:
    """Whether opening a path cannot wait for a writer, and reading it comes to an end.

    Shells pass an open pipe as a path of `OPEN_PIPES`, for instance for `<(command)`.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    return stat.S_ISFIFO(mode) and os.fspath(path).startswith(OPEN_PIPES)


def standard_input() -> IO[bytes]:
    """Standard input; UnreadableAudio if it is closed."""
    if sys.stdin is None:
        unreadable("Standard input is closed", "", "pipe audio into it")
    # Something else may stand in for it, and then it is the file object itself.
    return cast("IO[bytes]", getattr(sys.stdin, "buffer", sys.stdin))


def unreadable(rule: str, actual: str, remedy: str) -> NoReturn:
    """Raise UnreadableAudio, without the error that led to it."""
    raise UnreadableAudio(rule, actual, remedy) from None


def reason(error: Exception) -> str:
    """The message of an error of another package, in short."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
