"""`auris convert`: a model directory in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auris.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(convert)


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Model: directory, name or hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make.")],
    layout: Annotated[
        str,
        typer.Option(help="published (qwen-asr), hf (transformers) or native (loads fastest)."),
    ] = "native",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; as stored by default.")
    ] = None,
    shard_gb: Annotated[float, typer.Option(help="Largest weight file in GB.")] = 5.0,
) -> None:
    """Write a whole model directory in another layout: weights, configs, tokenizer, template."""
    if layout not in ("published", "hf", "native"):
        raise UsageError(
            "The layout has to be published, hf or native", f"{layout!r} was asked", "choose one"
        )
    if not 0 < shard_gb < 1e6:
        raise UsageError(
            "--shard-gb has to be positive and below a million", f"it is {shard_gb}", "choose 5"
        )
    from auris.backends.torch import DTYPES
    from auris.checkpoints.export import convert as write
    from auris.checkpoints.hub import resolve

    if dtype is not None and dtype not in DTYPES:
        raise UsageError(
            f"The dtype has to be {', '.join(DTYPES)}", f"{dtype!r} was asked", "choose one"
        )
    found = resolve(source).directory
    directory = write(
        found,
        out,
        layout,  # type: ignore[arg-type]
        dtype=None if dtype is None else DTYPES[dtype],
        shard_bytes=int(shard_gb * 1e9),
    )
    typer.echo(str(directory))
