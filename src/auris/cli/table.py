"""How measurements are reported: a table on standard output, and a line of JSON that ends it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import typer


class Table:
    """Rows of columns of fixed width, written as they come; the last column has any width.

    Args:
        last: title of the last column.
        formats: for the title of every other column its format, which begins with the width: ">8"
            or ">8.2f".
    """

    def __init__(self, last: str, formats: dict[str, str]) -> None:
        self._formats = list(formats.values())
        widths = (re.match(r"[<>]\d+", form) for form in self._formats)
        self._widths = [width.group() for width in widths if width]
        self._write(formats, self._widths, last)

    def row(self, last: object, *cells: object) -> None:
        """Write a row; None is shown as a dash."""
        forms = (
            width if cell is None else form
            for cell, form, width in zip(cells, self._formats, self._widths, strict=True)
        )
        self._write(("-" if cell is None else cell for cell in cells), forms, last)

    def _write(self, cells: Iterable[object], forms: Iterable[str], last: object) -> None:
        row = " ".join(format(cell, form) for cell, form in zip(cells, forms, strict=True))
        typer.echo(f"{row}  {last}")


def shown_size(size: int) -> str:
    """A number of bytes in the unit that fits it: MB, kB or bytes."""
    for unit, count in (("MB", 1e6), ("kB", 1e3)):
        if size >= count:
            return f"{size / count:.1f} {unit}"
    return f"{size} bytes"


def write_json(summary: dict[str, Any]) -> None:
    """Write the figures as one line of JSON, with dataclasses as objects, and null for a number
    that is not finite, which JSON does not have."""
    typer.echo(json.dumps(_plain(summary)))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
