"""`auris pull`: download a model from the hub."""

from __future__ import annotations

from typing import Annotated

import typer

from auris.cli.options import Revision


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
