"""`auris transcribe`: recordings to text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from auris.cli.interrupt import interruptible
from auris.cli.options import (
    BatchSize,
    CueOptions,
    ModelOptions,
    Speculate,
    SpeechOptions,
    with_options,
)
from auris.cli.output import Output
from auris.cli.progress import ProgressLine, stated_seconds
from auris.cli.results import Results
from auris.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(with_options(transcribe))


def transcribe(
    call: typer.Context,
    model: ModelOptions,
    speech: SpeechOptions,
    cues: CueOptions,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...", help="Recordings, also http addresses; - is standard input."
        ),
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option("--audio", help="A recording, like FILE. Repeatable.")
    ] = None,
    speculate: Speculate = "none",
    batch_size: BatchSize = 1,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            "--output-format",
            "-f",
            help="txt, json, jsonl, srt, vtt, tsv, lrc or all; several by commas. Repeatable.",
            show_default="txt",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Write NAME.txt and so on there, not stdout."),
    ] = None,
) -> None:
    """Transcribe recordings of any format.

    Text goes to standard output: one line a file, with the file's name before it when there are
    several; with -f json one JSON object a line. Of a single file txt, jsonl, tsv, srt and vtt are
    written while it is transcribed. Subtitles of several files, and several formats,
    need --output-dir. Among several files the good ones are still transcribed; the exit code is 1
    when one failed, and 130 after Ctrl-C, which keeps what was written.
    """
    sources = [*(files or []), *(audio or [])]
    output = Output.planned(
        sources, output_format or ["txt"], output_dir, cues.max_line_width, cues.max_line_count
    )
    speech.check()
    _check_words(speech.word_timestamps, output.formats)
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model.model, speculate=speculate, **model.loading())
    options = speech.call(model)
    apart = speech.channels == "split"
    seconds = stated_seconds(sources, speech.start, speech.seconds, apart)
    with ProgressLine(len(sources), seconds) as line, interruptible() as interrupt:
        results = Results(output, line, interrupt, debug=bool(call.obj))
        options |= {"batch_size": batch_size, "progress": line.show, "cancel": interrupt}
        results.take(pipeline.updates(list(sources), speech.language, speech.context, **options))
    raise typer.Exit(results.close())


def _check_words(asked: bool, formats: Sequence[str]) -> None:
    if asked and set(formats) <= {"txt", "tsv"}:
        raise UsageError(
            "--word-timestamps need a format that shows times of words",
            f"{' and '.join(formats)} would look the same without",
            "add -f json, jsonl, srt, vtt or lrc",
        )
