"""`auris`: the commands, and how errors end the program."""

from __future__ import annotations

import codecs
import gc
import io
import json
import os
import sys
from typing import Annotated

import typer

from auris.cli import benchmark, train
from auris.cli.align import align
from auris.cli.batch import batch
from auris.cli.detect_language import detect_language
from auris.cli.doctor import doctor
from auris.cli.interrupt import INTERRUPTED, was_interrupted
from auris.cli.listen import listen
from auris.cli.model_directories import convert, models, pull, quantize
from auris.cli.options import option, with_options
from auris.cli.serve import serve
from auris.cli.transcribe import transcribe
from auris.errors import AurisError

EPILOG = (
    "Environment: AURIS_MODEL and AURIS_DEVICE replace the defaults of --model and --device; "
    "HF_HOME is the folder of downloaded models; HF_HUB_OFFLINE=1 forbids the network."
)
COMMANDS = (
    *(transcribe, batch, listen, align, detect_language, serve),
    *(models, pull, convert, quantize, doctor),
)

app = typer.Typer(
    name="auris",
    help="Speech recognition on your own machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in COMMANDS:
    app.command()(with_options(command))
app.add_typer(train.app)
app.add_typer(benchmark.app)


def _show_version(requested: bool) -> None:
    if requested:
        from auris import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, option("Show the version.", "--version", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool,
        option("Show the traceback of an error. Allowed anywhere in the command line.", "--debug"),
    ] = False,
) -> None:
    """Speech recognition on your own machine."""


def _normalized(arguments: list[str]) -> tuple[list[str], bool]:
    """Options with dashes instead of underscores: whisper has --output_format.

    Only names of long options change: not values, and nothing after a bare --.

    Returns:
        the arguments without --debug, and whether it was among them.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    normalized = []
    for argument in arguments[:end]:
        if argument == "--debug":
            continue
        name, equals, value = argument.partition("=")
        dashed = name.replace("_", "-") if name.startswith("--") else name
        normalized.append(dashed + equals + value)
    return normalized + arguments[end:], "--debug" in arguments[:end]


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Characters that the terminal's encoding lacks, escaped as in JSON."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Objects that are made between two garbage collections. Importing torch and reading a vocabulary
make hundreds of thousands that stay; collecting among them took about a fifth of a command's start
in the one run that was measured."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0, 1 for failures, 2 for wrong usage."""
    run(app, sys.argv[1:] if arguments is None else arguments)


def run(program: typer.Typer, arguments: list[str]) -> None:
    """Run a program: options may have underscores, and errors are one sentence."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    normalized, debug = _normalized(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("auris.escaped", _escaped)
        sys.stdout.reconfigure(errors="auris.escaped")
    try:
        program(normalized, obj=debug)
    except SystemExit as ended:
        error = _flush_error()
        if error is None or ended.code:
            raise
        sys.stderr.write(f"auris: {_sentence(error)}\n")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if was_interrupted() and not isinstance(error, AurisError):
            sys.exit(INTERRUPTED)  # A library made another error of the KeyboardInterrupt.
        sys.stderr.write(f"auris: {_sentence(error)}\n")
        _flush_error()
        sys.exit(error.exit_code if isinstance(error, AurisError) else 1)


def _flush_error() -> OSError | None:
    """Write what is left of the output; without room it is discarded, and the error returned.

    Python would otherwise try again at its end, and exit with 120.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def _sentence(error: Exception) -> str:
    if isinstance(error, AurisError):
        return error.sentence
    if isinstance(error, OSError):
        return (
            "Files and streams have to be readable and writable, but "
            f"{error.filename or 'one'} is not ({error.strerror or error}): "
            "check space and permissions, or run with --debug to see where it happened."
        )
    return (
        "The program has to end without an internal error, but there was one "
        f"({type(error).__name__}: {' '.join(str(error).split())[:300]}): "
        "run again with --debug to see where, and report it."
    )
