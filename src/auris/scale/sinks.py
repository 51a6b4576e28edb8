"""Results as JSON lines, Parquet, a NeMo manifest or Lhotse supervisions."""

from __future__ import annotations

import json
import posixpath
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from auris.errors import OutputError, UsageError
from auris.scale.parquet import pyarrow_module
from auris.scale.storage import Storage

SinkFormat = Literal["jsonl", "parquet", "nemo", "lhotse"]
FORMATS: tuple[str, ...] = get_args(SinkFormat)

ROWS_WRITTEN = 1000
"""Rows of a row group of a Parquet file."""


def sink_format(path: str, given: str | None) -> str:
    """The format of a file: the given one, or that of its name.

    Raises:
        UsageError: there is no such format, or the name ends in none.
    """
    name = posixpath.splitext(path)[1].removeprefix(".") if given is None else given
    if name not in FORMATS:
        raise UsageError(
            f"The format of merged results has to be one of {', '.join(FORMATS)}",
            f"it is {name!r}" if given else f"the name of {path!r} does not say which",
            "choose one with -f, or name the file .jsonl or .parquet",
        )
    return name


def write_merged(lines: Iterable[bytes], path: str, form: str) -> int:
    """Write results into one file, which appears when it is complete.

    Args:
        lines: of `auris.scale.run.merged_lines`.
        path: a path, or an address of a filesystem.
        form: one of `FORMATS`.

    Returns:
        number of recordings.

    Raises:
        OutputError: it cannot be written; an older file stays.
    """
    folder, name = posixpath.split(path)
    storage = Storage(folder or ".")
    with tempfile.TemporaryDirectory(prefix="auris-merge-") as drafts:
        draft = Path(drafts, "merged")
        try:
            count = _WRITERS[form](lines, draft)
        except OSError as error:
            raise OutputError(
                f"Merged results need room in {drafts!r}",
                f"writing failed ({error.strerror or error})",
                "make room, or set TMPDIR to a larger disk",
            ) from error
        storage.upload(draft, name)
    return count


def _write_lines(lines: Iterable[bytes], path: Path) -> int:
    count = 0
    with open(path, "wb") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def _write_nemo(lines: Iterable[bytes], path: Path) -> int:
    return _write_objects(lines, path, lambda row: [nemo_row(row)])


def _write_lhotse(lines: Iterable[bytes], path: Path) -> int:
    return _write_objects(lines, path, supervisions)


def _write_objects(
    lines: Iterable[bytes], path: Path, convert: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> int:
    count = 0
    with open(path, "w", encoding="ascii") as file:
        for line in lines:
            count += 1
            # ASCII, since names may have half a surrogate pair, which UTF-8 cannot have.
            for content in convert(json.loads(line)):
                file.write(json.dumps(content, ensure_ascii=True) + "\n")
    return count


def nemo_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a NeMo manifest: that of the input with `pred_text`, or with `error`."""
    given = row.get("row", {})
    content = {"audio_filepath": given.get("audio_filepath", row["file"]), **given}
    content.setdefault("duration", row.get("audio_seconds"))
    if "error" in row:
        return {**content, "pred_text": "", "error": row["error"]}
    return {**content, "pred_text": row["text"], "pred_lang": row["language"]}


def supervisions(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The segments with text as supervisions of Lhotse, with times in the recording; none of a
    recording that failed."""
    given = row.get("row", {})
    name = str(given.get("id", row["file"]))
    start = given.get("start", 0.0)
    converted = []
    for number, segment in enumerate(row.get("segments", ())):
        if not segment["text"]:
            continue
        content: dict[str, Any] = {
            "id": f"{name}-{number}",
            "recording_id": given.get("recording_id", name),
            "start": round(start + segment["start"], 3),
            "duration": round(segment["end"] - segment["start"], 3),
            "channel": given.get("channel", 0),
            "text": segment["text"],
        }
        for key in ("language", "speaker"):
            if segment.get(key):
                content[key] = segment[key]
        words = [word for word in segment.get("words") or () if word["start"] is not None]
        if words:
            content["alignment"] = {"word": [_aligned(word, start) for word in words]}
        converted.append(content)
    return converted


def _aligned(word: dict[str, Any], start: float) -> list[Any]:
    seconds = round(word["end"] - word["start"], 3)
    return [word["text"], round(start + word["start"], 3), seconds, word["confidence"]]


def _write_parquet(lines: Iterable[bytes], path: Path) -> int:
    arrow, parquet = pyarrow_module("pyarrow"), pyarrow_module("pyarrow.parquet")
    schema = _schema(arrow)
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in _groups(lines, ROWS_WRITTEN):
            table = arrow.Table.from_pylist([_table_row(row) for row in rows], schema)
            writer.write_table(table)
            count += len(rows)
    return count


def _groups(lines: Iterable[bytes], size: int) -> Iterator[list[dict[str, Any]]]:
    waiting = iter(lines)
    while group := [json.loads(line) for line in islice(waiting, size)]:
        yield group


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    given = json.dumps(row["row"]) if "row" in row else None
    content: dict[str, Any] = _without_surrogates({**row, "row": given})
    return content


def _without_surrogates(value: Any) -> Any:
    """A value with a question mark for each half surrogate pair, which columns of text cannot
    have."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_without_surrogates(element) for element in value]
    if isinstance(value, dict):
        return {key: _without_surrogates(element) for key, element in value.items()}
    return value


def _schema(arrow: Any) -> Any:
    text, number, truth = arrow.string(), arrow.float64(), arrow.bool_()
    word = {"text": text, "start": number, "end": number, "confidence": number, "speaker": text}
    words = arrow.list_(arrow.struct(list(word.items())))
    segment = {"start": number, "end": number, "text": text, "language": text, "speaker": text}
    segment |= {"confidence": number, "no_speech": truth, "finish_reason": text, "words": words}
    columns = {"file": text, "text": text, "language": text, "confidence": number}
    columns |= {"audio_seconds": number, "finish_reason": text, "truncated": truth}
    columns |= {"segments": arrow.list_(arrow.struct(list(segment.items())))}
    columns |= {"warnings": arrow.list_(text), "error": text, "kind": text, "row": text}
    return arrow.schema(list(columns.items()))


_WRITERS: dict[str, Callable[[Iterable[bytes], Path], int]] = {
    "jsonl": _write_lines,
    "parquet": _write_parquet,
    "nemo": _write_nemo,
    "lhotse": _write_lhotse,
}
