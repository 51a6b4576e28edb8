"""`auris detect-language`: which language is spoken, and with which probability."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from auris.cli.declare import option
from auris.cli.options import ModelOptions, OutputFormat
from auris.errors import AurisError, UsageError

LEAST = 0.01
"""Languages with a smaller probability are left out of the text; JSON has all of them."""


def detect_language(
    files: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Recordings; - is standard input.")
    ],
    model: ModelOptions,
    start: Annotated[float, option("First second to use.")] = 0.0,
    duration: Annotated[float, option("Seconds to use.")] = 30.0,
    output_format: OutputFormat = "txt",
) -> None:
    """Detect the language of recordings, with a model that has a decoder.

    Standard output has a line for each recording: its name, then languages with their
    probabilities, the most probable first.
    """
    pipeline = model.pipeline()
    failed = False
    for file in files:
        try:
            probabilities = pipeline.detect_language(file, start=start, duration=duration)
        except AurisError as error:
            if isinstance(error, UsageError) or len(files) == 1:
                raise
            sys.stderr.write(f"auris: {file}: {error.sentence}\n")
            failed = True
            continue
        typer.echo(_line(file, probabilities, output_format))
    if failed:
        raise typer.Exit(1)


def _line(file: str, probabilities: list[tuple[str | None, float]], output_format: str) -> str:
    if output_format == "json":
        languages = [{"language": name, "probability": round(p, 6)} for name, p in probabilities]
        return json.dumps({"file": file, "languages": languages}, ensure_ascii=False)
    likely = [pair for pair in probabilities if pair[1] >= LEAST] or probabilities[:1]
    names = ", ".join(f"{name or 'no speech'} {p:.2f}" for name, p in likely)
    return f"{file}: {names}"
