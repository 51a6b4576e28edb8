"""`auris models`: the models of this machine."""

from __future__ import annotations

import typer


def models() -> None:
    """List the bundled models and those downloaded from the hub."""
    from auris.checkpoints.configs import read_config
    from auris.checkpoints.hub import DEFAULT_MODEL, bundled_models, cached_models
    from auris.errors import CheckpointError

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
