"""`auris pull`: fetch a model from the hub."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(pull)


def pull(
    name: Annotated[
        str,
        typer.Argument(help="Hub id, such as Qwen/Qwen3-ASR-0.6B, also with @REVISION."),
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Fetch a model into the cache, so that it can be used without a network.

    Prints the directory; a revision is used as --model OWNER/NAME@REVISION.
    Only safetensors weights are fetched, never pickled ones.
    """
    from auris.checkpoints.hub import pull as fetch

    typer.echo(str(fetch(name, revision)))
