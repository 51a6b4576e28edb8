"""The results of many recordings in one file, which continues a run that was interrupted.

Results are lines of JSON, appended as they come. The first line describes the run: the model with a
digest of its files, the dtype, the options and the version of Auris. Each other line is a recording
that is done, with its transcript or its error. A run with an existing results file skips these
recordings. An incomplete last line, which a killed run can leave, is removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from auris.checkpoints.atomic import new_file, write_all
from auris.errors import OutputError, UsageError
from auris.recognition.scheduler import Failure
from auris.types import Transcript

MOST_LETTERS = 200
"""Letters of a value in the message about another run."""

RUN = "auris_batch"
"""Key of a results file's first line."""


class ResultsFile:
    """The results of a run, open for more.

    Results are appended to a file of JSON lines as they come. If the name ends in .json, the lines
    are in another file in the same folder, and `publish` writes one JSON array of them. One process
    at a time can have the file open.

    Args:
        path: the file; it is made, or continued.
        run: everything that a result depends on (model, options), as plain JSON values.

    Raises:
        UsageError: the file is not a results file, or one of another run.
        OutputError: it cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.failed: dict[str, str] = {}
        self._array = path.suffix.lower() == ".json"
        # The target of a symbolic link is locked and continued.
        self._target = Path(os.path.realpath(path))
        name = self._target.name + ".journal" if self._array else self._target.name
        self._lines = self._target.with_name(name)
        self._positions: dict[str, tuple[int, int]] = {}
        self._lock = self._locked()
        with ExitStack() as cleanup:
            cleanup.callback(self._lock.release)
            with _writing(path):
                self._check_kind()
                # Without a buffer, so that nothing of a failed write is written later.
                self._file: IO[bytes] = open(self._lines, "a+b", buffering=0)  # noqa: SIM115
            cleanup.callback(self._file.close)
            self._continue(json.loads(json.dumps(run)))
            cleanup.pop_all()

    def _locked(self) -> FileLock:
        """The lock of the file, in a hidden file next to it."""
        lock = FileLock(self._lines.with_name(f".{self._lines.name}.lock"), timeout=0)
        with _writing(self.path):
            try:
                self._lines.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            except Timeout:
                raise OutputError(
                    "Only one run at a time can write to a results file",
                    f"another run writes to {str(self.path)!r}",
                    "wait until it is done, or name another file",
                ) from None
        return lock

    def _check_kind(self) -> None:
        for path in {self.path, self._lines}:
            if path.exists() and not path.is_file():
                raise OSError("it is not a regular file")
        if self._array and self.path.exists() and not self._lines.exists():
            raise UsageError(
                "--output has to be a new file, or the results of the same run",
                f"{str(self.path)!r} has no file {self._lines.name!r} next to it",
                "name another file",
            )

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write everything to the disk."""
        if self._file.closed:
            return
        try:
            with _writing(self.path):
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._lock.release()

    def __contains__(self, name: str) -> bool:
        """Whether a recording is done."""
        return name in self._positions

    def _continue(self, run: Mapping[str, Any]) -> None:
        """Read existing results and remove an incomplete last line."""
        read = 0
        with open(self._lines, "rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    if number == 0 and not _is_begun(line):
                        raise self._foreign(1)
                    break
                self._read(number, line, read, run)
                read += len(line)
        if os.fstat(self._file.fileno()).st_size > read:
            self._file.truncate(read)
        if read == 0:
            self._write({RUN: dict(run)})

    def _foreign(self, number: int) -> UsageError:
        return UsageError(
            "--output has to be a new file, or the results of the same run",
            f"line {number} of {str(self._lines)!r} is not a result",
            "name another file",
        )

    def _read(self, number: int, line: bytes, position: int, run: Mapping[str, Any]) -> None:
        try:
            content = json.loads(line)
            value: Any = content[RUN if number == 0 else "file"]
            sound = isinstance(value, dict if number == 0 else str)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise self._foreign(number + 1)
        if number > 0:
            self._positions[value] = (position, len(line))
            if "error" in content:
                self.failed[value] = str(content["error"])
        elif value != run:
            raise UsageError(
                "A results file can only be continued with the same model, options and input",
                f"{str(self.path)!r} began with {changes(value, run)}",
                "give the same ones, or name another file",
            )

    def append(self, name: str, result: Transcript | Failure) -> None:
        """Add a recording that is done; if that fails, the file does not change."""
        if isinstance(result, Transcript):
            self._positions[name] = self._write({"file": name, **result.to_dict()})
            return
        error = result.error.without_span()
        content = {"file": name, "error": error.sentence, "kind": type(error).__name__}
        self._positions[name] = self._write(content)
        self.failed[name] = error.sentence

    def _write(self, content: Mapping[str, Any]) -> tuple[int, int]:
        """Add a line; returns its position and length."""
        # ASCII, since file names may have half a surrogate pair, which UTF-8 cannot have.
        line = json.dumps(content, ensure_ascii=True).encode() + b"\n"
        before = self._file.seek(0, os.SEEK_END)
        with _writing(self.path):
            try:
                write_all(self._file, line)
            except OSError:
                self._file.truncate(before)
                raise
        return before, len(line)

    def forget_failures(self) -> None:
        """Remove failed recordings, so that they are tried again."""
        if not self.failed:
            return
        position = 0
        positions: dict[str, tuple[int, int]] = {}
        with _writing(self.path):
            with open(self._lines, "rb") as old, new_file(self._lines) as fresh:
                for line in old:
                    name = json.loads(line).get("file")
                    if name in self.failed:
                        continue
                    if name is not None:
                        positions[name] = (position, len(line))
                    fresh.write(line)
                    position += len(line)
            self._file.close()
            self._file = open(self._lines, "a+b", buffering=0)  # noqa: SIM115
        self._positions = positions
        self.failed.clear()

    def missing(self, names: Iterable[str]) -> list[str]:
        """Names that are not done yet."""
        return [name for name in names if name not in self._positions]

    def publish(self, names: Iterable[str]) -> None:
        """If the file is a JSON array, write it, in the order of names.

        If that fails, an older array stays.
        """
        if not self._array:
            return
        with _writing(self.path), open(self._lines, "rb") as lines, new_file(self._target) as array:
            before = b"[\n"
            for position, length in (self._positions[n] for n in names if n in self._positions):
                lines.seek(position)
                array.write(before + lines.read(length).rstrip(b"\n"))
                before = b",\n"
            array.write((b"" if before == b",\n" else before) + b"\n]\n")


def _is_begun(line: bytes) -> bool:
    """Whether an incomplete line is the beginning of the first line of a results file."""
    head = f'{{"{RUN}": '.encode()
    return line.startswith(head) or head.startswith(line)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The values of two runs that differ, for messages."""
    return " and ".join(
        f"{name} {_given(before, name)} instead of {_given(now, name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def _given(run: Mapping[str, Any], name: str) -> str:
    if name not in run:
        return "not given"
    value = repr(run[name])
    return value if len(value) <= MOST_LETTERS else f"{value[:MOST_LETTERS]}..."


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Convert OSError to OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "--output has to be a writable file",
            f"{str(path)!r} cannot be written ({error.strerror or error})",
            "name another, or make room; the results so far stay",
        ) from error
