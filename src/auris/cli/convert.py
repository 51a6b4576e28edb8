"""`auris convert`: a model directory in another layout."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from auris.cli.options import Revision, SourceModel, TargetDirectory, option
from auris.errors import UsageError


def convert(
    source: SourceModel,
    out: TargetDirectory,
    revision: Revision = None,
    layout: Annotated[
        str, option("published (qwen-asr), hf (transformers) or native (loads fastest).")
    ] = "native",
    dtype: Annotated[
        str | None, option("float32, bfloat16 or float16.", default="as stored")
    ] = None,
    shard_gb: Annotated[float, option("Largest size of a weight file in GB.")] = 5.0,
) -> None:
    """Write a model directory in another layout, with weights, configs, tokenizer and template."""
    if layout not in ("published", "hf", "native"):
        raise UsageError(
            "The layout has to be published, hf or native", f"it is {layout!r}", "choose one"
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
            f"The dtype has to be {', '.join(DTYPES)}", f"it is {dtype!r}", "choose one"
        )
    directory = write(
        resolve(source, revision=revision).directory,
        out,
        cast("Literal['published', 'hf', 'native']", layout),
        dtype=None if dtype is None else DTYPES[dtype],
        shard_bytes=int(shard_gb * 1e9),
    )
    typer.echo(str(directory))
