"""Ten thousand recordings, one results file, and no fear of a crash.

Results are lines of JSON, appended as they come. The first line says what the run is; every other
one is a recording that is done, well or badly. Started again with the same results file, a run
leaves out what is there already; half a line at the end, which a killed run can leave, is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from auris.audio.encoded import is_data_uri
from auris.audio.io import Source
from auris.audio.remote import is_url
from auris.batching import Failure
from auris.errors import AurisError, OutputError, UnreadableAudio, UsageError
from auris.types import Transcript

__all__ = [
    "MEDIA",
    "Found",
    "Outcome",
    "ResultsFile",
    "input_of",
    "irregular",
    "listed",
    "recordings_in",
    "source_of",
]

# fmt: off
MEDIA = frozenset((
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".dts",
    ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4",
    ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".ts", ".tta", ".voc", ".w64",
    ".wav", ".webm", ".wma", ".wmv", ".wv",
))
# fmt: on
"""Suffixes of files that are taken from a folder."""

RUN = "auris_batch"
"""Key of a results file's first line."""

INPUT = "input"
"""Key in it of what the names are relative to; results files of earlier versions lack it."""


@dataclass(frozen=True)
class Found:
    """Recordings by name, in order, and the files of a folder that are none by their suffix."""

    names: list[str]
    others: int = 0


def recordings_in(folder: Path) -> Found:
    """Recordings in a folder and the folders in it, named relative to it with slashes.

    Hidden files and folders are left out; links to folders are not followed.

    Raises:
        UsageError: it is no folder, or cannot be listed.
    """
    if not folder.is_dir():
        raise UsageError(
            "--input-dir has to be a folder", f"{str(folder)!r} is none", "name a folder"
        )
    names, others = [], 0
    for place, folders, files in os.walk(folder, onerror=_unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in MEDIA:
                names.append(Path(place, name).relative_to(folder).as_posix())
            else:
                others += 1
    return Found(names, others)


def _unlisted(error: OSError) -> None:
    raise UsageError(
        "Every folder under --input-dir has to be readable", str(error), "correct its rights"
    ) from error


def listed(lines: Iterable[str]) -> Found:
    """Recordings named one a line; empty lines are skipped, and a name that comes twice counts
    once."""
    names = (line.strip("\r\n") for line in lines)
    return Found(list(dict.fromkeys(name for name in names if name.strip())))


def input_of(folder: Path | None, names: Iterable[str]) -> str:
    """What recordings' names are relative to, which the same names elsewhere are not.

    Args:
        folder: the one that was searched; None for a list.
        names: of the list.
    """
    if folder is not None:
        return f"folder {folder.resolve()}"
    relative = any(not (is_url(n) or is_data_uri(n) or Path(n).is_absolute()) for n in names)
    return f"list relative to {Path.cwd()}" if relative else "list"


@dataclass(frozen=True)
class Outcome:
    """One line of a results file: a recording's name, and its transcript or why there is none."""

    name: str
    result: Transcript | Failure

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        if isinstance(self.result, Failure):
            error = self.result.error.without_span()
            return {"file": self.name, "error": error.sentence, "kind": type(error).__name__}
        return {"file": self.name, **self.result.to_dict()}


class ResultsFile:
    """The results of a run, open for more.

    Args:
        path: the file; it is made, or continued.
        run: what a result depends on (model, options), as plain JSON values.

    Raises:
        UsageError: the file is no results file, or one of another run.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.failed: dict[str, str] = {}
        self._done: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise OSError("it is no regular file, so it could not be continued")
            self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            self._continue(run)
        except AurisError:
            self._file.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Have everything on the disk."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __len__(self) -> int:
        return len(self._done)

    def __contains__(self, name: str) -> bool:
        """Whether a recording is done."""
        return name in self._done

    def _continue(self, run: Mapping[str, Any]) -> None:
        """Read what is there and cut off half a line."""
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            self._read(number, line, run)
            whole += len(line)
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() > whole:
            self._file.truncate(whole)
        if whole == 0:
            self._write({RUN: dict(run)})

    def _read(self, number: int, line: bytes, run: Mapping[str, Any]) -> None:
        try:
            content = json.loads(line)
            value: Any = content[RUN if number == 0 else "file"]
            sound = isinstance(value, dict if number == 0 else str)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise UsageError(
                "--output has to be a new file, or the results of the same run",
                f"line {number + 1} of {str(self.path)!r} is no result",
                "name another file",
            )
        if number > 0:
            self._done.add(value)
            if "error" in content:
                self.failed[value] = str(content["error"])
        elif value != {k: run[k] for k in run if k != INPUT or k in value}:
            raise UsageError(
                "A results file is continued with the model, options and input that it began with",
                f"{str(self.path)!r} began with {_changes(value, run)}",
                "give the same ones, or name another file",
            )

    def append(self, outcome: Outcome) -> None:
        """Add a recording that is done.

        Raises:
            OutputError: there is no room; nothing of it stays in the file.
        """
        content = outcome.to_dict()
        self._write(content)
        self._done.add(outcome.name)
        if "error" in content:
            self.failed[outcome.name] = content["error"]

    def _write(self, content: Mapping[str, Any]) -> None:
        # Names that are no text come back as they were: JSON can hold half a surrogate pair.
        line = json.dumps(content, ensure_ascii=True).encode() + b"\n"
        before = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self._file.truncate(before)
            raise _unwritable(self.path, error) from error

    def forget_failures(self) -> int:
        """Take recordings that failed out of the file, so that they are tried again.

        Returns:
            how many there were.
        """
        if not self.failed:
            return 0
        fresh = self.path.with_name(self.path.name + ".new")
        self._file.seek(0)
        kept = [line for line in self._file if "error" not in json.loads(line)]
        try:
            with open(fresh, "wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            fresh.replace(self.path)
            self._file = open(self.path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise _unwritable(self.path, error) from error
        count = len(self.failed)
        self._done -= set(self.failed)
        self.failed.clear()
        return count

    def missing(self, names: Iterable[str]) -> Iterator[str]:
        """Names that are not done yet."""
        return (name for name in names if name not in self._done)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a run began with, and what it is now."""
    return " and ".join(
        f"{name} {_given(before, name)} instead of {_given(now, name)}"
        for name in sorted({*before, *now} - ({INPUT} - set(before)))
        if before.get(name) != now.get(name)
    )


def _given(run: Mapping[str, Any], name: str) -> str:
    return repr(run[name]) if name in run else "not given"


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "--output has to be a file that can be written",
        f"{str(path)!r} cannot be ({error.strerror or error})",
        "name another, or make room; what is done is kept",
    )


def source_of(folder: Path | None, name: str) -> Source:
    """Where a recording of a run lies."""
    return str(folder / name) if folder is not None else name


def irregular(source: Source) -> Failure | None:
    """Why a pipe or a device among the recordings of a run is not opened; None for anything else.

    Opening a pipe waits until somebody writes to it, which would hold up the whole run.
    """
    place = Path(str(source))
    try:
        regular = place.is_file() or place.is_dir() or not place.exists()
    except (OSError, ValueError):  # Addresses and data URIs need not be possible paths.
        return None
    if regular:
        return None
    return Failure(
        UnreadableAudio(
            "A recording of a folder or a list has to be a file",
            f"{str(source)!r} is no regular file",
            "leave it out, or give a pipe to auris transcribe",
        )
    )
