"""Runs a function as a command, with the options and the error messages of `auris`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from auris.cli.declare import with_options
from auris.cli.main import run

__all__ = ["run_command"]


def run_command(command: Callable[..., None]) -> None:
    """Run the command line of a benchmark."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(with_options(command))
    run(app, sys.argv[1:])
