"""Parquet files: row groups as units, cells with audio, and tables of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from auris.errors import MissingExtra, UnreadableAudio, UsageError
from auris.scale.manifests import LONGEST_SECONDS
from auris.scale.storage import filesystem
from auris.scale.units import InputUnit

ROWS_READ = 16
"""Rows of a Parquet file in memory at once."""

SECONDS = ("duration", "audio_seconds", "seconds")
"""Columns that state durations."""

FIELDS = ("id", "text", "language", "lang", "speaker", "prompt", *SECONDS)
"""Columns whose values results repeat."""


def pyarrow_module(name: str) -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtra: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(
            "Parquet files need the extra scale",
            "the package pyarrow is not installed",
            "run pip install 'auris-asr[scale]'",
        ) from error


def parquet_units(uri: str, column: str) -> Iterator[InputUnit]:
    """The row groups of a Parquet file; where it has a column of durations, with their sums.

    Raises:
        UnreadableAudio: it is no Parquet file.
        UsageError: it cannot be opened, or it has no such column.
    """
    with ExitStack() as stack:
        file = _opened(uri, stack)
        names = file.schema_arrow.names
        if column not in names:
            raise UsageError(
                "--audio-column has to be a column of the Parquet files",
                f"{uri!r} has the columns {', '.join(names)}, and not {column!r}",
                "name one of them",
            )
        stated = next((name for name in SECONDS if name in names), None)
        for group in range(file.num_row_groups):
            data = file.metadata.row_group(group)
            seconds = None
            if stated is not None:
                values = file.read_row_group(group, [stated])[stated].to_pylist()
                seconds = _sum(values)
            yield InputUnit(
                "parquet",
                uri,
                seconds=seconds,
                size=data.total_byte_size,
                rows=data.num_rows,
                group=group,
                column=column,
            )


def _sum(values: list[Any]) -> float | None:
    """The sum of durations; None if one of them is missing or cannot be a duration."""
    for value in values:
        if type(value) not in (int, float) or not 0 <= value < LONGEST_SECONDS:
            return None
    return float(sum(values))


def parquet_cells(unit: InputUnit) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The rows of a row group: name, audio (bytes, or an address) or None, and other values.

    Raises:
        UnreadableAudio: the file cannot be read further.
    """
    with ExitStack() as stack:
        try:
            file = _opened(unit.uri, stack)
            columns = [unit.column, *(n for n in FIELDS if n in file.schema_arrow.names)]
            batches = file.iter_batches(ROWS_READ, row_groups=[unit.group], columns=columns)
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    cell = row.pop(unit.column)
                    default = f"{unit.uri}#{unit.group}.{number}"
                    name, audio = _cell(cell, str(row.get("id") or default))
                    yield name, audio, {key: v for key, v in row.items() if v is not None}
                    number += 1
        except MissingExtra:
            raise
        except Exception as error:  # Packages of filesystems raise errors of their own.
            raise UnreadableAudio(
                f"Row group {unit.group} of a Parquet file cannot be read ({error})",
                "",
                "get or write the file anew",
            ) from error


def _cell(cell: Any, default: str) -> tuple[str, Any]:
    """The name and the audio of a cell: bytes, an address, or both as Hugging Face stores them."""
    if isinstance(cell, dict):
        path, data = cell.get("path"), cell.get("bytes")
        return path or default, path if data is None else data
    if isinstance(cell, str):
        return cell, cell
    return default, cell


def _opened(uri: str, stack: ExitStack) -> Any:
    parquet = pyarrow_module("pyarrow.parquet")
    fs, path = filesystem(uri)
    try:
        file = stack.enter_context(fs.open(path, "rb"))
        return stack.enter_context(parquet.ParquetFile(file))
    except Exception as error:  # Packages of filesystems raise errors of their own.
        kind = UnreadableAudio if isinstance(error, ValueError) else UsageError
        raise kind(
            "A Parquet file has to be readable", f"{uri!r} is not ({error})", "get it anew"
        ) from error
