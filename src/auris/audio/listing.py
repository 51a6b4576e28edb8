"""The recordings of a folder or a list, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from auris.audio.encoded import is_data_uri
from auris.audio.io import Source
from auris.audio.remote import is_url
from auris.errors import UnreadableAudio, UsageError

# fmt: off
MEDIA = frozenset((
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".dts",
    ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4",
    ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".ts", ".tta", ".voc", ".w64",
    ".wav", ".webm", ".wma", ".wmv", ".wv",
))
# fmt: on
"""Suffixes of files that are taken from a folder."""


@dataclass(frozen=True)
class RecordingNames:
    """Recordings by name, in order, and the files of a folder that are none by their suffix."""

    names: list[str]
    others: int = 0


def recordings_in(folder: Path) -> RecordingNames:
    """Recordings in a folder and the folders in it, named relative to it with slashes.

    Hidden files and folders are left out; links to folders are not followed.
    """
    if not folder.is_dir():
        raise UsageError(
            "--input-dir has to be a folder", f"{str(folder)!r} is none", "name a folder"
        )
    names, others = [], 0
    for directory, folders, files in os.walk(folder, onerror=_unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in MEDIA:
                names.append(Path(directory, name).relative_to(folder).as_posix())
            else:
                others += 1
    return RecordingNames(names, others)


def _unlisted(error: OSError) -> None:
    raise UsageError(
        f"A folder under --input-dir cannot be read ({error})", "", "correct its rights"
    ) from error


def listed(lines: Iterable[str]) -> RecordingNames:
    """Recordings named one a line; empty lines are skipped, and repeated names count once."""
    names = (line.strip("\r\n") for line in lines)
    return RecordingNames(list(dict.fromkeys(name for name in names if name.strip())))


def input_of(folder: Path | None, names: Iterable[str]) -> str:
    """What the names of recordings are relative to: the folder, or the directory of a list."""
    if folder is not None:
        return f"folder {folder.resolve()}"
    relative = any(not (is_url(n) or is_data_uri(n) or Path(n).is_absolute()) for n in names)
    return f"list relative to {Path.cwd()}" if relative else "list"


def source_of(folder: Path | None, name: str) -> Source:
    """Where a recording of a run lies."""
    return str(folder / name) if folder is not None else name


def check_regular(source: Source) -> None:
    """Refuse a pipe or a device. Opening a pipe waits until another program writes to it, which
    would block a run.

    Raises:
        UnreadableAudio: the recording is one.
    """
    path = Path(str(source))
    try:
        regular = path.is_file() or path.is_dir() or not path.exists()
    except (OSError, ValueError):  # Addresses and data URIs need not be possible paths.
        return
    if not regular:
        raise UnreadableAudio(
            "A recording of a folder or a list has to be a file",
            f"{str(source)!r} is not a regular file",
            "leave it out, or give a pipe to auris transcribe",
        )
