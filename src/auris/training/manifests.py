"""Training manifests, in CSV or JSONL."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from auris.audio.io import Source
from auris.errors import TrainingError
from auris.evaluation.sets import recording_path
from auris.text.prompt import TEXT_TAG

UNNAMED = "None"
"""Language of a text whose manifest does not name it, as in the official format."""


@dataclass(frozen=True)
class ManifestRow:
    """A line of a manifest, before anything is checked.

    Attributes:
        wav: the recording; None where the line has a text alone.
        label: what reports call the row, where that is not the path of the recording.
        speaker: set and speaker, "" where not known.
        language: as the manifest has it, or `UNNAMED`.
        prompt: context that the model is given.
        speechless: whether the recording has no speech: language None and no text.
    """

    wav: Path | Source | None
    text: str
    speaker: str = ""
    language: str = UNNAMED
    prompt: str = ""
    speechless: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """The row in a report."""
        if self.wav is None:
            return f"{self.text[:40]!r} without audio"
        return self.label or str(self.wav)


def read_manifest(path: Path, language: str = UNNAMED) -> list[ManifestRow]:
    """Rows of a manifest, in CSV or JSONL as docs/training.md describes them.

    Args:
        path: the manifest.
        language: of the rows that name none.

    Raises:
        TrainingError: the file is missing or cannot be read, or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return [_row(path, line, language) for line in manifest_values(file, str(path))]
    except (OSError, UnicodeError) as error:
        raise TrainingError(
            "A manifest has to be a readable file in UTF-8", f"{path}: {error}", "check the path"
        ) from error


def manifest_values(lines: Iterable[str], name: str) -> Iterator[Mapping[str, str | None]]:
    """The values of the rows of a manifest by the names of the columns of CSV.

    Args:
        lines: of the manifest, each with its end.
        name: of the manifest; JSONL if it ends in .jsonl.

    Raises:
        TrainingError: a line is wrong, or the manifest lacks a column.
    """
    return (_jsonl if name.lower().endswith(".jsonl") else _csv)(lines, name)


def _csv(lines: Iterable[str], name: str) -> Iterator[Mapping[str, str | None]]:
    # Strict, since an open quote would otherwise swallow the lines after it.
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_columns(reader.fieldnames or [], name)
        for line in reader:
            if None in line:
                raise TrainingError(
                    "A line of a manifest has to have as many fields as there are columns",
                    f"line {reader.line_num} of {name} has more",
                    "put quotes around texts that hold commas",
                )
            yield line
    except csv.Error as error:
        raise TrainingError(
            "A CSV manifest has to be a readable file in UTF-8, with quotes in pairs",
            f"{name} is not ({error} in line {reader.line_num})",
            "correct it",
        ) from error


def _check_columns(columns: Sequence[str], name: str) -> None:
    absent = [column for column in ("wav", "text") if column not in columns]
    if absent:
        raise TrainingError(
            "A manifest has to have the columns wav and text",
            f"{name} lacks {' and '.join(absent)}",
            "add the columns, with paths relative to the CSV's folder",
        )


@checked(config=ConfigDict(strict=True))
class _JsonLine:
    """A line of a JSONL manifest; other keys are ignored."""

    wav: Annotated[str | None, Field(alias="audio")]
    text: str | None
    speaker: str | None = None
    language: str | None = None
    prompt: str | None = None


_JSON_LINE = TypeAdapter(_JsonLine)


def _jsonl(lines: Iterable[str], name: str) -> Iterator[Mapping[str, str | None]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield vars(_JSON_LINE.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{part}: " for part in first["loc"])
            raise TrainingError(
                "A line of a JSONL manifest has to be an object with the texts audio and text",
                f"line {number} of {name} is not ({key}{first['msg']})",
                "correct the line",
            ) from error


def _row(manifest: Path, line: Mapping[str, str | None], language: str) -> ManifestRow:
    wav = line.get("wav")
    recording = recording_path(manifest, wav) if wav else None
    return manifest_row(line, recording, manifest.stem, language)


def manifest_row(
    values: Mapping[str, Any],
    wav: Path | Source | None,
    origin: str,
    language: str,
    label: str = "",
) -> ManifestRow:
    """The row of the values of a manifest.

    Args:
        values: text, speaker, language and prompt, each of which may be missing.
        origin: name of the source; equal speakers in two sources are two speakers.
        language: of a row that names none.
    """
    speaker, text = values.get("speaker") or "", values.get("text") or ""
    language = values.get("language") or language
    speechless = False
    if TEXT_TAG in text:
        prefix, _, text = text.partition(TEXT_TAG)
        language = prefix.strip().removeprefix("language").strip() or language
        speechless = language == UNNAMED and not text.strip()
    return ManifestRow(
        wav=wav,
        text=text,
        speaker=f"{origin}/{speaker}" if speaker not in ("", "unknown") else "",
        language=language,
        prompt=values.get("prompt") or "",
        speechless=speechless,
        label=label,
    )
