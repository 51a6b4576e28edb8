"""`auris align`: a known text placed in its recording."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.options import Device, Dtype, Model, Threads
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.types import Word

FORMATS = ("txt", "json")

UNLIKELY = 1e-4
"""Words less probable than this on average are hardly what is said."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(align)


def align(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="Recording; - is standard input.")],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What is said in it.")
    ] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="File with the text, instead of TEXT.")
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    language: Annotated[
        str, typer.Option("--language", "-l", help="Code or English name, or auto.")
    ] = "auto",
    start: Annotated[float, typer.Option(help="First second to align.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds to align.")] = None,
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", help="txt or json.")
    ] = "txt",
) -> None:
    """Say when each word of a text is said in a recording.

    A line a word goes to standard output: start, end and the word, separated by tabs, and
    `repaired` where a time was inferred; a time that is not known is `-`. With -f json it is one
    JSON object.
    """
    if output_format not in FORMATS:
        raise UsageError(
            f"The output format has to be {' or '.join(FORMATS)}",
            f"{output_format!r} was asked",
            "choose one with -f",
        )
    said = _text(text, text_file)
    from auris.alignment.aligner import ForcedAligner
    from auris.output.formats import WORD_WRITERS

    aligner = ForcedAligner.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    words = aligner.align(audio, said, language, start=start, duration=duration)
    sys.stdout.write(WORD_WRITERS[output_format](words, audio))
    _remark(words)


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise UsageError(
            "There has to be one text to align",
            "there is none" if text is None else "there are TEXT and --text-file",
            "give TEXT or --text-file",
        )
    if file is None:
        return text or ""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "--text-file has to be readable UTF-8",
            f"reading {str(file)!r} failed ({error})",
            "name another",
        ) from None


def _remark(words: Sequence[Word]) -> None:
    """What a reader of the times alone would not see."""
    lost = sum(word.start is None for word in words)
    if not words:
        sys.stderr.write("auris: the text has no words\n")
    elif lost:
        sys.stderr.write(f"auris: {lost} of {len(words)} words could not be placed\n")
    scores = [math.log(max(c, 1e-30)) for word in words if (c := word.confidence) is not None]
    if scores and math.exp(math.fsum(scores) / len(scores)) < UNLIKELY:
        sys.stderr.write("auris: the words are hardly heard; is the text what is said?\n")
