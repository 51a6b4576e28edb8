"""`auris transcribe`: recordings to text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from auris.cli.interrupt import interruptible
from auris.cli.options import (
    BatchSeconds,
    BatchSize,
    ChunkSeconds,
    Context,
    Device,
    Dtype,
    Language,
    Languages,
    Model,
    Speculate,
    Threads,
    Vad,
    listed,
)
from auris.cli.output import Output, Results
from auris.cli.progress import ProgressLine, stated_seconds
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.audio.io import Channels


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(transcribe)


def transcribe(
    call: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...", help="Recordings, also http addresses; - is standard input."
        ),
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option("--audio", help="A recording, like FILE. Repeatable.")
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    speculate: Speculate = "none",
    batch_size: BatchSize = 1,
    batch_seconds: BatchSeconds = None,
    language: Language = "auto",
    languages: Languages = None,
    context: Context = "",
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Token budget of a piece; by default 64, and 16 a second."),
    ] = None,
    chunk_seconds: ChunkSeconds = None,
    vad: Vad = None,
    start: Annotated[float, typer.Option(help="First second to transcribe.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds to transcribe.")] = None,
    channels: Annotated[
        str, typer.Option(help="mix, or split to transcribe each by itself, with speakers.")
    ] = "mix",
    speakers: Annotated[
        str | None,
        typer.Option(
            help="Names for split channels, by commas.", show_default="channel 1,channel 2"
        ),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the best token, above it draws.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    word_timestamps: Annotated[
        bool,
        typer.Option(
            "--word-timestamps", help="Give every word its times; not with txt or tsv alone."
        ),
    ] = False,
    aligner: Annotated[
        str | None,
        typer.Option(help="Model that places the words; the model's own CTC head by default."),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option(help="Clean-up of texts: numbers (English, in digits), punctuation."),
    ] = None,
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
    max_line_width: Annotated[
        int | None,
        typer.Option(help="Columns of a line of srt, vtt and lrc.", show_default="42"),
    ] = None,
    max_line_count: Annotated[
        int | None, typer.Option(help="Lines of a cue of srt and vtt.", show_default="2")
    ] = None,
) -> None:
    """Transcribe recordings of any format.

    Text goes to standard output: one line a file, with the file's name before it when there are
    several; with -f json one JSON object a line. Subtitles of several files, and several formats,
    need --output-dir. Among several files the good ones are still transcribed; the exit code is 1
    when one failed.
    """
    sources = [*(files or []), *(audio or [])]
    output = Output.planned(
        sources, output_format or ["txt"], output_dir, max_line_width, max_line_count
    )
    _check_words(word_timestamps, aligner, output.formats)
    from auris.align import ForcedAligner
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(
        model, device=device, dtype=dtype, threads=threads, speculate=speculate
    )
    placing = (
        None
        if aligner is None
        else ForcedAligner.from_pretrained(aligner, device=device, dtype=dtype)
    )
    apart = channels == "split"
    seconds = stated_seconds(sources, start, duration, apart)
    with ProgressLine(len(sources), seconds) as line, interruptible() as interrupt:
        results = Results(output, line, interrupt, debug=bool(call.obj))
        results.take(
            pipeline.updates(
                list(sources),
                language,
                context,
                batch_size=batch_size,
                batch_seconds=batch_seconds,
                languages=listed(languages),
                chunk_seconds=chunk_seconds,
                vad=vad,
                start=start,
                duration=duration,
                channels=cast("Channels", channels),
                speakers=listed(speakers),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                word_timestamps=word_timestamps,
                aligner=placing,
                clean=listed(clean) or [],
                progress=line.show,
                cancel=interrupt,
            )
        )
    raise typer.Exit(results.close())


def _check_words(asked: bool, aligner: str | None, formats: Sequence[str]) -> None:
    if asked and set(formats) <= {"txt", "tsv"}:
        raise UsageError(
            "--word-timestamps need a format that shows times of words",
            f"{' and '.join(formats)} would look the same without",
            "add -f json, jsonl, srt, vtt or lrc",
        )
    if aligner is not None and not asked:
        raise UsageError(
            "--aligner is the model for --word-timestamps",
            "these were not asked",
            "add --word-timestamps",
        )
