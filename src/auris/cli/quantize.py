"""`auris quantize`: a model directory in 8 or 4 bits."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from auris.cli.options import Revision, SourceModel, TargetDirectory, option


def quantize(
    source: SourceModel,
    out: TargetDirectory,
    revision: Revision = None,
    dtype: Annotated[str, option("int8 or int4.")] = "int8",
    group: Annotated[
        int, option("int4: columns that share a scale: 32 (most accurate), 64 or 128.")
    ] = 32,
) -> None:
    """Write a model directory with its large matrices in 8 or 4 bits. It also loads faster."""
    from auris.checkpoints.hub import resolve
    from auris.checkpoints.quantize import quantize as write

    directory = resolve(source, revision=revision).directory
    typer.echo(str(write(directory, out, cast("Literal['int8', 'int4']", dtype), group)))
