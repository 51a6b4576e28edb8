"""`auris models`, `pull`, `convert` and `quantize`: model directories."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from auris.cli.declare import option
from auris.cli.options import Revision, SourceModel, TargetDirectory
from auris.cli.table import shown_size
from auris.errors import CheckpointError, UsageError


def models() -> None:
    """List the bundled models and those downloaded from the hub."""
    from auris.checkpoints.configs import read_config
    from auris.checkpoints.hub import DEFAULT_MODEL, bundled_models, cached_models

    directories = {**bundled_models(), **cached_models()}
    for name, directory in directories.items():
        try:
            layout, config = read_config(directory)
        except CheckpointError as error:
            typer.echo(f"{name}: {error.sentence}", err=True)
            continue
        kind = type(config).__name__.removesuffix("Config")
        size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
        mark = "  (default)" if name == DEFAULT_MODEL else ""
        typer.echo(f"{name}  {kind}, {layout} layout, {shown_size(size)}, {directory}{mark}")
    if not directories:
        typer.echo("no models here; download one with: auris pull OWNER/NAME", err=True)


def pull(
    name: Annotated[
        str, typer.Argument(help="Hub id, such as Qwen/Qwen3-ASR-0.6B, also with @REVISION.")
    ],
    revision: Revision = None,
) -> None:
    """Download a model into the cache, so that it can be used without a network.

    Prints the directory. Only safetensors weights are downloaded, no pickled ones.
    """
    from auris.checkpoints.hub import pull as download

    typer.echo(str(download(name, revision)))


def convert(
    source: SourceModel,
    out: TargetDirectory,
    revision: Revision = None,
    layout: Annotated[
        Literal["published", "hf", "native"],
        option("published is for qwen-asr, hf for transformers; native loads fastest."),
    ] = "native",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        option("Type of the written weights.", default="as stored"),
    ] = None,
    shard_gb: Annotated[float, option("Largest size of a weight file in GB.")] = 5.0,
) -> None:
    """Write a model directory in another layout, with weights, configs, tokenizer and template."""
    if not 0 < shard_gb < 1e6:
        raise UsageError(
            "--shard-gb has to be positive and below a million", f"it is {shard_gb}", "choose 5"
        )
    from auris.backends.devices import DTYPES
    from auris.checkpoints.export import convert as write
    from auris.checkpoints.hub import resolve

    directory = write(
        resolve(source, revision=revision).directory,
        out,
        layout,
        dtype=None if dtype is None else DTYPES[dtype],
        shard_bytes=int(shard_gb * 1e9),
    )
    typer.echo(str(directory))


def quantize(
    source: SourceModel,
    out: TargetDirectory,
    revision: Revision = None,
    dtype: Annotated[
        Literal["int8", "int4"], option("Type of the large matrices' weights.")
    ] = "int8",
    group: Annotated[
        int,
        option("With int4, columns that share a scale: 32 (the most accurate), 64 or 128."),
    ] = 32,
) -> None:
    """Write a model directory with its large matrices in 8 or 4 bits."""
    from auris.checkpoints.hub import resolve
    from auris.checkpoints.quantize import quantize as write

    typer.echo(str(write(resolve(source, revision=revision).directory, out, dtype, group)))
