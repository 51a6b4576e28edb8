"""`auris transcribe`: recordings to text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auris.cli.advice import advise_official
from auris.cli.declare import option
from auris.cli.interrupt import interruptible
from auris.cli.options import BatchSize, CueOptions, Lm, ModelOptions, Speculate, SpeechOptions
from auris.cli.output import Output
from auris.cli.progress import ProgressLine, header_seconds
from auris.cli.results import ResultWriter
from auris.errors import UsageError


def transcribe(
    command: typer.Context,
    model: ModelOptions,
    speech: SpeechOptions,
    cues: CueOptions,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Recordings, folders of recordings, and http addresses; - is standard input.",
        ),
    ] = None,
    audio: Annotated[
        list[str] | None, option("A recording, like FILE. Repeatable.", "--audio")
    ] = None,
    speculate: Speculate = "none",
    lm: Lm = "auto",
    batch_size: BatchSize = 1,
    output_format: Annotated[
        list[str] | None,
        option(
            "txt, json, jsonl, srt, vtt, tsv, lrc, rttm or all; several separated by commas. "
            "Repeatable.",
            "--output-format",
            "-f",
            default="txt",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        option(
            "Folder for the output files, such as NAME.txt.",
            "--output-dir",
            "-o",
            default="standard output",
        ),
    ] = None,
) -> None:
    """Transcribe recordings of any format.

    Text is written to standard output, one line for each file; with several files each line begins
    with the name of the file. -f json writes one JSON object per line. Subtitles of several files,
    and several formats, need --output-dir. The text of a single file is written while it is
    transcribed. If one of several files fails, the others are still transcribed, and the exit code
    is 1. After Ctrl-C, written text stays, and the exit code is 130.
    """
    output = Output.planned(
        [*(files or []), *(audio or [])], output_format or ["txt"], output_dir, cues
    )
    sources = output.sources
    speech.check()
    if speech.word_timestamps and set(output.formats) <= {"txt", "tsv"}:
        raise UsageError(
            "--word-timestamps needs a format that shows times of words",
            f"{' and '.join(output.formats)} shows none",
            "add -f json, jsonl, srt, vtt or lrc",
        )
    pipeline = model.pipeline(speculate, lm, speech.beam_size)
    if model.is_default and not {"json", "jsonl"} & set(output.formats):
        advise_official(pipeline)
    options = speech.call(model)
    seconds = header_seconds(
        sources, speech.start, speech.seconds, each_channel=speech.channels == "split"
    )
    with ProgressLine(len(sources), seconds) as line:
        with interruptible() as interrupt:
            writer = ResultWriter(output, line, interrupt, debug=bool(command.obj))
            options |= {"batch_size": batch_size, "progress": line.show, "cancel": interrupt}
            updates = pipeline.updates(sources, speech.language, speech.context, **options)
            writer.write(updates)
        code = writer.close()
    raise typer.Exit(code)
