"""`auris models`, `pull`, `convert` and `quantize`: model directories."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from auris.cli.options import Revision, SourceModel, TargetDirectory, option
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
        size = sum(path.stat().st_size for path in directory.glob("*.safetensors")) / 1e6
        mark = "  (default)" if name == DEFAULT_MODEL else ""
        typer.echo(f"{name}  {kind}, {layout} layout, {size:.1f} MB, {directory}{mark}")
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
