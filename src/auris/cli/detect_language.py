"""`auris detect-language`: which language is spoken, and how likely."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from auris.cli.options import Device, Dtype, Model, Threads
from auris.errors import AurisError, UsageError

NO_SPEECH = "no speech"

LEAST = 0.01
"""Languages less likely than this are not told in text; JSON has all of them."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("detect-language")(detect_language)


def detect_language(
    files: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Recordings; - is standard input.")
    ],
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    start: Annotated[float, typer.Option(help="First second to listen to.")] = 0.0,
    duration: Annotated[float, typer.Option(help="Seconds to listen to.")] = 30.0,
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", help="txt or json, a line a recording.")
    ] = "txt",
) -> None:
    """Tell the language of recordings, by a model with a decoder.

    A line a recording: its name, then languages with their probabilities, the likeliest first.
    """
    if output_format not in ("txt", "json"):
        raise UsageError(
            "The output format has to be txt or json",
            f"{output_format!r} was asked",
            "choose one with -f",
        )
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    failed = False
    for file in files:
        try:
            chances = pipeline.detect_language(file, start=start, duration=duration)
        except AurisError as error:
            if isinstance(error, UsageError) or len(files) == 1:
                raise
            sys.stderr.write(f"auris: {file}: {error.sentence}\n")
            failed = True
            continue
        typer.echo(_line(file, chances, output_format))
    if failed:
        raise typer.Exit(1)


def _line(file: str, chances: list[tuple[str | None, float]], form: str) -> str:
    if form == "json":
        named = [{"language": name, "probability": round(p, 6)} for name, p in chances]
        return json.dumps({"file": file, "languages": named}, ensure_ascii=False)
    likely = [pair for pair in chances if pair[1] >= LEAST] or chances[:1]
    told = ", ".join(f"{name or NO_SPEECH} {chance:.2f}" for name, chance in likely)
    return f"{file}: {told}"
