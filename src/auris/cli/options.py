"""Options that several commands share, with one spelling and one help text."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "BatchSeconds",
    "BatchSize",
    "ChunkSeconds",
    "Context",
    "Device",
    "Dtype",
    "Language",
    "Languages",
    "Model",
    "Speculate",
    "Threads",
    "Vad",
    "listed",
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Directory, bundled model or hub id; AURIS_MODEL or the bundled default.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="auto, cpu, cuda, cuda:N or mps; AURIS_DEVICE or auto.", show_default=False),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (as stored, where it is fast), float32, bfloat16, float16, int8 or int4."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads; torch's own choice by default.")
]
Speculate = Annotated[
    str,
    typer.Option(help="none, or ctc: the model's CTC head guesses what the decoder verifies."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Most pieces decoded at once, over all files.")]
BatchSeconds = Annotated[
    float | None,
    typer.Option(help="Most seconds of audio decoded at once.", show_default="no limit"),
]
Language = Annotated[
    str, typer.Option("--language", "-l", help="auto, or a code or English name to force.")
]
Context = Annotated[
    str, typer.Option(help="Names and words to expect; models with a decoder only.")
]
ChunkSeconds = Annotated[
    float | None,
    typer.Option(
        help="Cut longer recordings at quiet places about this far apart.",
        show_default="what the model hears best, or 30",
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(help="Languages to choose from, as en,zh.", show_default="all of the model's"),
]
Vad = Annotated[
    bool | None,
    typer.Option(
        "--vad/--no-vad",
        help="Cut where nobody speaks and leave long silence out.",
        show_default="what the model hears best, or no-vad",
    ),
]


def listed(given: str | None) -> list[str] | None:
    """The parts of an option's value that commas separate."""
    return None if given is None else [part.strip() for part in given.split(",")]
