"""The rows of a corpus: what a source lists, and the recordings and texts of what it lists."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from auris.audio.io import Source
from auris.errors import UnreadableAudio
from auris.evaluation.sets import recording_path
from auris.scale.rows import (
    StorageFailures,
    audio_rows,
    original_error,
    parquet_rows,
    unreadable_source,
)
from auris.scale.sources import resolved, text_lines, units
from auris.scale.storage import absolute, filesystem
from auris.scale.units import InputUnit
from auris.training.corpus.tar_samples import tar_samples
from auris.training.manifests import ManifestRow, manifest_row, manifest_values

ORIGIN = "origin"
"""The field of a unit with the name of its source."""

TEXT = "text"

UNREADABLE = "unreadable"
"""Text of what cannot be read, which has words so that this is the reason why it is left out."""


def corpus_units(source: str) -> Iterator[InputUnit]:
    """What a source lists; paths are absolute.

    Args:
        source: what `auris batch --input` takes, or a manifest of `auris train --data`.

    Raises:
        UsageError: there is no such source, or its format is wrong.
        TrainingError: a line of a manifest is wrong.
    """
    source = absolute(source)
    origin = posixpath.splitext(posixpath.basename(source.rstrip("/")))[0]
    listed = _manifest(source) if _is_training_manifest(source) else units(source)
    for unit in listed:
        texts = {name: value for name, value in unit.fields.items() if isinstance(value, str)}
        yield replace(unit, fields={**texts, ORIGIN: origin})


def _is_training_manifest(source: str) -> bool:
    """Whether a file has the form of `auris train --data`."""
    if source.lower().endswith(".csv"):
        return True
    if not source.lower().endswith(".jsonl"):
        return False
    first = next((line for line in text_lines(source) if line.strip()), "")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "audio" in row


def _manifest(source: str) -> Iterator[InputUnit]:
    for values in manifest_values(text_lines(source), source):
        wav = values.get("wav")
        if wav and "://" not in source:
            uri = absolute(str(recording_path(Path(source), wav)))
        else:
            uri = resolved(wav, source) if wav else ""
        fields = {name: value for name, value in values.items() if value and name != "wav"}
        yield InputUnit("file", uri, uri, fields=fields)


def corpus_rows(unit: InputUnit, language: str, failures: StorageFailures) -> Iterator[ManifestRow]:
    """The rows of a unit, in order.

    Args:
        language: of the rows that name none.
        failures: where failures of filesystems are noted.
    """
    origin = unit.fields[ORIGIN]
    if unit.kind != "file":
        for name, audio, values in _contained(unit, failures):
            yield _row(name, audio, values, origin, language)
    elif not unit.uri and not unit.fault:
        yield _row("", None, unit.fields, origin, language)
    else:
        for row in audio_rows([unit], failures):
            values = row.fields
            if unit.fault:
                values = {**values, TEXT: UNREADABLE}
            elif TEXT not in values:
                values = {**values, TEXT: _sidecar_text(unit.uri, failures)}
            yield _row(row.name, row.source, values, origin, language)


def _contained(
    unit: InputUnit, failures: StorageFailures
) -> Iterator[tuple[str, Source, Mapping[str, Any]]]:
    """The rows of a tar file or of a row group: names, recordings and other values."""
    try:
        if unit.kind == "tar":
            yield from tar_samples(unit.uri, failures)
        else:
            for row in parquet_rows(unit, failures):
                yield row.name, row.source, row.fields
    except Exception as error:  # Filesystems raise errors of many kinds.
        failures.note(original_error(error))
        reason = f"The file {unit.uri!r} cannot be read further ({error})"
        source = unreadable_source(UnreadableAudio(reason, "", "get it anew"))
        yield unit.uri, source, {TEXT: UNREADABLE}


def _row(
    name: str, source: Source | None, values: Mapping[str, Any], origin: str, language: str
) -> ManifestRow:
    given = {key: value for key, value in values.items() if isinstance(value, str)}
    given.setdefault("language", given.get("lang", ""))
    return manifest_row(given, source, origin, language, name)


def _sidecar_text(uri: str, failures: StorageFailures) -> str:
    """The content of the file with the name of a recording and the suffix .txt; empty if there is
    none."""
    try:
        fs, path = filesystem(uri)
        data: bytes = fs.cat_file(os.path.splitext(path)[0] + ".txt")
    except Exception as error:  # Filesystems raise errors of many kinds.
        failures.note(error)
        return ""
    return data.decode("utf-8-sig", "replace").strip()
