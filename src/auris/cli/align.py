"""`auris align`: the times of the words of a known text."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.declare import option
from auris.cli.options import Language, ModelOptions, OutputFormat
from auris.cli.output import check_open_output
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.types import Word

UNLIKELY = 1e-4
"""If the mean probability of the words is below this, the text is probably not what is spoken."""


def align(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="Recording; - is standard input.")],
    model: ModelOptions,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What is spoken in it.")
    ] = None,
    text_file: Annotated[Path | None, option("UTF-8 file with the text, instead of TEXT.")] = None,
    language: Language = "auto",
    start: Annotated[float, option("First second to align.")] = 0.0,
    duration: Annotated[float | None, option("Seconds to align.", default="all")] = None,
    output_format: OutputFormat = "txt",
) -> None:
    """Find the times of the words of a known text in its recording.

    Standard output has a line for each word: start, end and the word, separated by tabs, and
    "repaired" if a time was inferred from its neighbours. A time that is not known is "-". With
    -f json it is one JSON object.
    """
    check_open_output()
    spoken = _text(text, text_file)
    from auris.output.formats import WORD_WRITERS

    words = model.aligner().align(audio, spoken, language, start=start, duration=duration)
    sys.stdout.write(WORD_WRITERS[output_format](words, audio))
    _warn(words)


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise UsageError(
            "The text to align is either TEXT or in --text-file",
            "neither is given" if text is None else "both are given",
            "give one of them",
        )
    if file is None:
        return text or ""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "--text-file has to be a readable file in UTF-8",
            f"reading {str(file)!r} failed ({error})",
            "name another file",
        ) from None


def _warn(words: Sequence[Word]) -> None:
    """Warnings about what the times alone do not show."""
    unaligned = sum(word.start is None for word in words)
    if not words:
        sys.stderr.write("auris: the text has no words\n")
    elif unaligned:
        sys.stderr.write(f"auris: {unaligned} of {len(words)} words could not be aligned\n")
    scores = [math.log(max(c, 1e-30)) for word in words if (c := word.confidence) is not None]
    if scores and math.exp(math.fsum(scores) / len(scores)) < UNLIKELY:
        sys.stderr.write("auris: the text is probably not what is spoken in the recording\n")
