"""Sources of recordings, on any filesystem: folders, patterns, lists, manifests, Parquet, tar.

A source is listed once, when a run is planned. Nothing of the audio is read then, except for the
headers of files where that is chosen.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import IO, Any, Literal, get_args

from auris.audio.encoded import is_data_uri
from auris.audio.io import look
from auris.audio.listing import MEDIA
from auris.audio.remote import is_url
from auris.errors import UnreadableAudio, UsageError
from auris.scale.manifests import lhotse_unit, manifest_lines, nemo_unit
from auris.scale.parquet import parquet_units
from auris.scale.storage import filesystem, fsspec_module, is_local
from auris.scale.units import InputUnit

SourceFormat = Literal["auto", "files", "list", "nemo", "lhotse", "parquet", "tar"]
FORMATS: tuple[str, ...] = get_args(SourceFormat)

SUFFIXES = {
    ".txt": "list",
    ".lst": "list",
    ".jsonl": "manifest",
    ".json": "manifest",
    ".parquet": "parquet",
    ".tar": "tar",
}
"""Formats by the end of a name; one more suffix of a compressed file may follow."""

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")

MAGIC = re.compile(r"[*?\[]")

LISTED_AS = {".parquet": "parquet", ".tar": "tar"}
"""Formats of whole files that may lie in a folder."""


def units(
    source: str, source_format: str = "auto", column: str = "audio", headers: bool = False
) -> Iterator[InputUnit]:
    """The units of a source, in an order that depends on the source alone.

    Args:
        source: a folder, a pattern such as `s3://bucket/calls/**/*.opus`, a list, a manifest, or a
            Parquet or tar file; a path or an address of fsspec.
        source_format: one of `FORMATS`; "auto" decides by the name.
        column: the column of Parquet files with audio.
        headers: read the durations of files whose source does not state them.

    Raises:
        UsageError: there is no such source, or its format is wrong.
    """
    if source_format not in FORMATS:
        raise UsageError(
            f"The input format has to be one of {', '.join(FORMATS)}",
            f"it is {source_format!r}",
            "choose one of them",
        )
    listed = _units(source, source_format, column)
    return map(_with_header, listed) if headers else listed


def _units(source: str, source_format: str, column: str) -> Iterator[InputUnit]:
    kind = _format(source) if source_format == "auto" else source_format
    if kind == "list":
        yield from _listed(source)
    elif kind in ("manifest", "nemo", "lhotse"):
        yield from _manifest(source, kind)
    else:
        yield from _files(source, kind, column)


def _format(source: str) -> str:
    """The format of a source by its name."""
    path = source.lower()
    for suffix in COMPRESSED:
        path = path.removesuffix(suffix)
    return SUFFIXES.get(posixpath.splitext(path)[1], "files")


def _files(source: str, kind: str, column: str) -> Iterator[InputUnit]:
    """Units of the files of a folder or a pattern."""
    fs, path = filesystem(source)
    paths = _listed_files(fs, path, source)
    empty = True
    for name, details in paths:
        suffix = posixpath.splitext(name.lower())[1]
        uri = name if is_local(fs) else fs.unstrip_protocol(name)
        contained = LISTED_AS.get(suffix) if kind == "files" else kind
        if contained == "parquet":
            part: Iterable[InputUnit] = _parquet(uri, column, alone=len(paths) == 1)
        elif contained == "tar":
            part = [InputUnit("tar", uri, size=details.get("size"), rows=None)]
        elif suffix in MEDIA or name == path:
            # Below a folder the relative name; of a pattern the whole path.
            called = name.removeprefix(path.rstrip("/") + "/")
            part = [InputUnit("file", uri, called, size=details.get("size"))]
        else:
            continue
        for unit in part:
            empty = False
            yield unit
    if empty:
        raise _nothing(source)


def _parquet(uri: str, column: str, alone: bool) -> list[InputUnit]:
    """The row groups of a Parquet file; one of several that is damaged is a unit with a fault."""
    try:
        return list(parquet_units(uri, column))
    except UnreadableAudio as error:
        if alone:
            raise UsageError(error.rule, error.actual, error.remedy) from error
        return [InputUnit("file", uri, uri, fault=error.actual)]


def _listed_files(fs: Any, path: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    """The files of a folder or a pattern with their details, sorted; hidden ones are left out.

    The name of a file or a folder that exists is no pattern, whatever characters it has.
    """
    root = path
    try:
        if fs.isfile(path):
            return [(path, fs.info(path))]
        if MAGIC.search(path) and not fs.isdir(path):
            paths = fs.glob(path, detail=True)
            root = MAGIC.split(path)[0]
        else:
            paths = fs.find(path, detail=True)
    except Exception as error:  # Packages of filesystems raise errors of their own.
        raise _unreadable(source, error) from error
    files = ((name, details) for name, details in paths.items() if details["type"] == "file")
    return sorted(
        ((name, details) for name, details in files if not _is_hidden(name.removeprefix(root))),
        key=lambda file: file[0],
    )


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _listed(source: str) -> Iterator[InputUnit]:
    """Recordings named one a line; relative paths are relative to the list."""
    empty = True
    for line in text_lines(source):
        name = line.strip("\r\n")
        if name.strip():
            empty = False
            yield InputUnit("file", resolved(name, source), name)
    if empty:
        raise _nothing(source)


def _manifest(source: str, kind: str) -> Iterator[InputUnit]:
    empty = True
    for number, row in manifest_lines(text_lines(source), source):
        empty = False
        cut = "recording" in row or str(row.get("type")).endswith("Cut")
        read = lhotse_unit if kind == "lhotse" or (kind == "manifest" and cut) else nemo_unit
        unit = read(row, f"line {number} of {source!r}")
        yield replace(unit, uri=resolved(unit.uri, source)) if unit.uri else unit
    if empty:
        raise _nothing(source)


def text_lines(source: str) -> Iterator[str]:
    """The lines of a text file in UTF-8, compressed or not.

    Raises:
        UsageError: it cannot be read.
    """
    fs, path = filesystem(source)
    compression = fsspec_module().utils.infer_compression(path)
    if compression is None and path.lower().endswith(COMPRESSED):
        suffix = posixpath.splitext(path)[1]
        raise UsageError(
            f"Reading {suffix} files needs the package that decompresses them",
            f"it is not installed, and {source!r} is one",
            "run pip install zstandard, or compress the file with gzip",
        )
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(fs.open(path, "rb", compression=compression))
            text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape")
            yield from stack.enter_context(text)
    except Exception as error:  # Filesystems and compressions raise errors of their own.
        raise _unreadable(source, error) from error


def resolved(name: str, source: str) -> str:
    """The address of a recording that a list or a manifest names."""
    if "://" in name or name.startswith("/") or is_url(name) or is_data_uri(name):
        return name
    folder = posixpath.dirname(source)
    return posixpath.join(folder, name) if folder else name


def _unreadable(source: str, error: Exception) -> UsageError:
    reason = str(error) or type(error).__name__
    return UsageError(
        "The input has to be readable", f"{source!r} is not ({reason})", "check the address"
    )


def _nothing(source: str) -> UsageError:
    return UsageError(
        "The input has no recordings", f"nothing was found in {source!r}", "check the address"
    )


def _with_header(unit: InputUnit) -> InputUnit:
    """The unit with the duration that the header of its file states."""
    if unit.kind != "file" or unit.seconds is not None or unit.fault:
        return unit
    if is_url(unit.uri) or is_data_uri(unit.uri):
        return unit
    fs, path = filesystem(unit.uri)
    try:
        with fs.open(path, "rb") as opened:
            file: IO[bytes] = opened
            header = look(file)
    except Exception:  # Also of a package of filesystems; reported when the recording is read.
        return unit
    return replace(unit, seconds=header.guess if header.seconds is None else header.seconds)
