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

from auris.cli import batch, benchmark, scale, train
from auris.cli.align import align
from auris.cli.benchmark_cpwer import cpwer
from auris.cli.benchmark_der import der
from auris.cli.benchmark_hotwords import hotwords
from auris.cli.benchmark_stream import stream
from auris.cli.benchmark_vad import vad
from auris.cli.declare import option, with_options
from auris.cli.detect_language import detect_language
from auris.cli.doctor import doctor
from auris.cli.interrupt import INTERRUPTED, was_interrupted
from auris.cli.listen import listen
from auris.cli.model_directories import convert, models, pull, quantize
from auris.cli.serve import serve
from auris.cli.transcribe import transcribe
from auris.cli.whisper_flags import without_whisper_flags
from auris.cli.wyoming import wyoming
from auris.errors import AurisError

EPILOG = (
    "Environment: AURIS_MODEL and AURIS_DEVICE replace the defaults of --model and --device; "
    "HF_HOME is the folder of downloaded models; HF_HUB_OFFLINE=1 forbids the network."
)
COMMANDS = (
    *(transcribe, listen, align, detect_language, serve, wyoming),
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
for measurement in (vad, der, cpwer, stream, hotwords):
    benchmark.app.command()(with_options(measurement))
app.add_typer(batch.app)
app.add_typer(scale.app)
app.add_typer(train.app)
app.add_typer(benchmark.app)


def _show_version(requested: bool) -> None:
    if requested:
        from auris.diagnostics.versions import version_lines

        typer.echo("\n".join(version_lines()))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        option(
            "Show the versions of Auris, its native code and its models.",
            "--version",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
    debug: Annotated[
        bool,
        option("Show the traceback of an error. Allowed anywhere in the command line.", "--debug"),
    ] = False,
) -> None:
    """Speech recognition on your own machine."""


def _normalized(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, and whether it was among them.

    Long options get dashes instead of underscores, since whisper has --output_format. Values and
    what follows a bare -- do not change.
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
make hundreds of thousands that stay, and collecting slows the start down by about a fifth."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0, 1 for failures, 2 for wrong usage."""
    run(app, sys.argv[1:] if arguments is None else arguments)


def run(program: typer.Typer, arguments: list[str]) -> None:
    """Run a program; option names may have underscores, and an error is shown as one sentence.

    Options of the program whisper are translated where they mean something here.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    normalized, debug = _normalized(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("auris.escaped", _escaped)
        sys.stdout.reconfigure(errors="auris.escaped")
    try:
        program(without_whisper_flags(normalized), obj=debug)
    except SystemExit as ended:
        error = _flush_error()
        if error is None or ended.code:
            raise
        sys.stderr.write(f"auris: {_sentence(error)}\n")
        sys.exit(1)
    except Exception as error:  # Whatever went wrong, the user gets one sentence.
        if debug:
            raise
        if was_interrupted() and not isinstance(error, AurisError):
            sys.exit(INTERRUPTED)  # A library made another error of the KeyboardInterrupt.
        sys.stderr.write(f"auris: {_sentence(error)}\n")
        _flush_error()
        sys.exit(error.exit_code if isinstance(error, AurisError) else 1)


def _flush_error() -> OSError | None:
    """Write buffered output; returns the error if that fails.

    The output is then discarded. Python would otherwise try again at exit, and exit with 120.
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
            f"Reading or writing {error.filename or 'a stream'} failed "
            f"({error.strerror or error}): check space and permissions, or run with --debug to "
            "see where it happened."
        )
    return (
        f"An internal error occurred ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:300]}): "
        "run again with --debug to see where, and report it."
    )
