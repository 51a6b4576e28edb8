"""Values of options that are lists or name files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from auris.errors import UsageError


def listed(value: str | None) -> list[str] | None:
    """The parts of an option's value that commas separate."""
    return None if value is None else [part.strip() for part in value.split(",")]


def read_known_speakers(values: Sequence[str]) -> dict[str, Path]:
    """Recordings of known speakers by name: NAME=FILE, or those of a folder."""
    from auris.audio.listing import recordings_in

    known: dict[str, Path] = {}
    for value in values:
        name, equals, file = value.partition("=")
        folder = Path(value)
        if os.path.isdir(value):
            paths = {Path(name).stem: folder / name for name in recordings_in(folder).names}
        elif equals and name.strip() and file:
            paths = {name.strip(): Path(file)}
        else:
            paths = {}
        if not paths or paths.keys() & known.keys():
            raise UsageError(
                "--known-speakers has to be NAME=FILE, or a folder of recordings, each with the "
                "name of its speaker, and no name may come twice",
                f"it is {value!r}" if not paths else f"{value!r} repeats a name",
                "correct it",
            )
        known |= paths
    return known


def numbers(option_name: str, text: str, least: float = 1, most: float = 1200) -> list[float]:
    """Numbers that an option takes separated by commas.

    Raises:
        UsageError: the text is something else, or a number is out of range.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(least <= value <= most for value in values):
        raise UsageError(
            f"{option_name} takes numbers from {least:g} to {most:g}, separated by commas",
            f"it is {text!r}",
            "correct it",
        )
    return values


def read_hotwords(value: str | None) -> list[str]:
    """The hotwords of an option: of a file, or separated by commas."""
    from auris.text.hotword_phrases import hotword_phrases

    if value is None:
        return []
    path, entries = Path(value), [value]
    named = "," not in value and ("/" in value or path.suffix == ".txt")
    try:
        if named or os.path.isfile(value):  # A list may be too long for a name.
            entries = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            "The file of --hotwords has to be a text file in UTF-8",
            f"reading {value!r} failed ({reason})",
            "correct the path, or separate the words by commas",
        ) from None
    return list(hotword_phrases(entries))


def named_directory(value: str) -> tuple[str, str]:
    """The name and the directory of NAME=DIR."""
    name, _, directory = value.partition("=")
    if not name or not directory or not name.isprintable() or " " in name:
        raise UsageError(
            "--adapter of auris serve takes NAME=DIR",
            f"it is {value!r}",
            "write for example german=adapters/german",
        )
    return name, directory
