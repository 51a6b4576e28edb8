"""`auris quantize`: a model directory in 8 or 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(quantize)


def quantize(
    source: Annotated[str, typer.Argument(metavar="IN", help="Model: directory, name or hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make.")],
    dtype: Annotated[str, typer.Option(help="int8 or int4.")] = "int8",
    group: Annotated[
        int, typer.Option(help="int4: columns that share a step: 32 (finest), 64 or 128.")
    ] = 32,
) -> None:
    """Write a model directory with its large matrices in 8 or 4 bits; it loads faster, too."""
    from auris.checkpoints.hub import resolve
    from auris.checkpoints.quantize import quantize as write

    directory = write(resolve(source).directory, out, dtype, group)  # type: ignore[arg-type]
    typer.echo(str(directory))
