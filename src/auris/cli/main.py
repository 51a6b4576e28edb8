"""`auris`: the commands, and how errors leave the program."""

from __future__ import annotations

import codecs
import gc
import io
import json
import sys
from typing import Annotated

import typer

from auris.cli import (
    align,
    batch,
    benchmark,
    benchmark_long,
    convert,
    detect_language,
    doctor,
    listen,
    models,
    pull,
    quantize,
    serve,
    train,
    transcribe,
)
from auris.errors import AurisError

__all__ = ["app", "main"]

EPILOG = (
    "Environment: AURIS_MODEL and AURIS_DEVICE replace the defaults of --model and --device; "
    "HF_HOME moves the cache of fetched models, HF_HUB_OFFLINE=1 forbids the network."
)

app = typer.Typer(
    name="auris",
    help="Speech recognition on your own machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

transcribe.register(app)
batch.register(app)
listen.register(app)
align.register(app)
detect_language.register(app)
serve.register(app)
models.register(app)
pull.register(app)
convert.register(app)
quantize.register(app)
doctor.register(app)
app.add_typer(train.app)
benchmark_long.register(benchmark.app)
app.add_typer(benchmark.app)


def _version(asked: bool) -> None:
    if asked:
        from auris import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere in the line).")
    ] = False,
) -> None:
    """Speech recognition on your own machine."""


def _spelled(arguments: list[str]) -> tuple[list[str], bool]:
    """Options in our spelling: --output_format, as whisper's users type it, is --output-format.

    Only names of long options change: not values, and nothing behind a bare --.

    Returns:
        the arguments without --debug, and whether it was among them.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    spelled = []
    for argument in arguments[:end]:
        if argument == "--debug":
            continue
        name, equals, value = argument.partition("=")
        dashed = name.replace("_", "-") if name.startswith("--") else name
        spelled.append(dashed + equals + value)
    return spelled + arguments[end:], "--debug" in arguments[:end]


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Letters that the terminal's encoding lacks, written as JSON may write them, too."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Objects made between two searches for garbage. Importing torch and reading a vocabulary make
hundreds of thousands that stay; searching among them took about a fifth of a command's
start in the one run that was looked at."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0, 1 for what failed, 2 for wrong usage."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    given, debug = _spelled(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("auris.escaped", _escaped)
        sys.stdout.reconfigure(errors="auris.escaped")
    try:
        app(given, obj=debug)
    except AurisError as error:
        if debug:
            raise
        sys.stderr.write(f"auris: {error.sentence}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        reason = error.strerror or str(error)
        sys.stderr.write(
            "auris: The system has to let files and streams be read and written, but "
            f"{error.filename or 'one'} could not be ({reason}): "
            "check space and permissions, or run with --debug to see where.\n"
        )
        sys.exit(1)
    except Exception as error:  # A fault of the program: told in one sentence all the same.
        if debug:
            raise
        sys.stderr.write(
            "auris: Every fault has to be told in words of its own, but this one was not foreseen "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]}): "
            "run again with --debug to see where, and report it.\n"
        )
        sys.exit(1)
