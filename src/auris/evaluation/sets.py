"""Test sets: recordings with their transcripts."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from auris.errors import UsageError


def recording_path(listing: Path, name: str) -> Path:
    """A recording by its name in a listing: relative to the folder of the listing, or to the
    working directory where the folder has no such file."""
    path = listing.parent / name
    # os.path.isfile answers False where Path.is_file raises: for names that are no file names.
    return Path(name) if not os.path.isfile(path) and os.path.isfile(name) else path


def read_set(source: str | Path) -> dict[Path, str]:
    """Recordings and their transcripts.

    The source is a CSV with the columns wav (see `recording_path`) and text; or a folder of
    recordings, each with its text in a .txt file of the same name; or a folder in the layout of
    LibriSpeech, where .trans.txt files hold a name and a text on each line. Others are refused.
    """
    path = Path(source)
    if path.is_dir():
        clips = _read_trans(path)
        texts = {text.stem: text for text in sorted(path.glob("*.txt"))}
        files = [file for file in sorted(path.iterdir()) if file.suffix != ".txt"]
        clips |= {file: _read_text(texts[file.stem]) for file in files if file.stem in texts}
    else:
        clips = _read_csv(path)
    if not clips:
        raise UsageError(
            f"The test set {str(path)!r} holds no recordings with transcripts",
            "",
            "name a CSV with the columns wav and text, or a folder of recordings and .txt files",
        )
    return clips


def _read_trans(folder: Path) -> dict[Path, str]:
    clips = {}
    for listing in sorted(folder.rglob("*.trans.txt")):
        files = {file.stem: file for file in listing.parent.iterdir() if file.suffix != ".txt"}
        for line in _read_text(listing).splitlines():
            name, _, text = line.strip().partition(" ")
            if not name:
                continue
            if name not in files:
                raise UsageError(
                    "Every text of a test set has to have a recording",
                    f"{str(listing)!r} names {name!r}, which is not in its folder",
                    "add the recording, or remove the line",
                )
            clips[files[name]] = text
    return clips


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(
        "A test set has to be a readable CSV, or a folder with readable texts in UTF-8",
        f"reading {str(path)!r} failed ({error})",
        "check the path",
    )


def _read_csv(path: Path) -> dict[Path, str]:
    return {recording_path(path, wav): text for wav, text in read_columns(path, "wav", "text")}


def read_columns(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """Values of the columns of a CSV, of the rows with a value in the first of them.

    Raises:
        UsageError: it cannot be read, or has no such columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            missing = sorted(set(columns) - set(rows.fieldnames or []))
            if missing:
                raise UsageError(
                    f"A test set has to be a CSV with the columns {' and '.join(columns)}",
                    f"{str(path)!r} has no column {' or '.join(missing)}",
                    "name its columns in the first line",
                )
            named = [row for row in rows if row[columns[0]]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None
    return [tuple(row[name] or "" for name in columns) for row in named]
