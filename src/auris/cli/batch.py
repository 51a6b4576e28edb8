"""`auris batch`: folders and lists of recordings to one results file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    Threads,
    Vad,
    listed,
)
from auris.cli.output import chosen_formats, file_stem
from auris.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from auris.bulk import Found, ResultsFile
    from auris.pipeline import Progress
    from auris.transcript_files import TranscriptFiles

MOST_SHOWN = 20
"""Failures that are told at the end; all are in the results file."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(batch)


def batch(
    output: Annotated[Path, typer.Option(help="Results file, JSON lines; made or continued.")],
    input_dir: Annotated[
        Path | None, typer.Option(help="Folder of recordings, with the folders in it.")
    ] = None,
    files: Annotated[
        str | None, typer.Option(help="Text file with a recording a line; - is standard input.")
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    batch_size: BatchSize = 8,
    batch_seconds: BatchSeconds = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read recordings ahead; results are the same.")
    ] = 0,
    language: Language = "auto",
    languages: Languages = None,
    context: Context = "",
    chunk_seconds: ChunkSeconds = None,
    vad: Vad = None,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            "--output-format",
            "-f",
            help="Also write NAME.srt and so on to --output-dir, in these formats. Repeatable.",
            show_default="none",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Where -f writes.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed in an earlier run.")
    ] = False,
) -> None:
    """Transcribe many recordings into one file of JSON lines.

    A run that broke off, however it did, is continued by the same command: finished recordings are
    kept once, the others are done. The exit code is 1 when a recording failed.
    """
    found = _found(input_dir, files)
    formats = sorted(chosen_formats(output_format or []))
    beside = _beside(output_dir, formats, found, input_dir is not None)
    from auris.batching import Failure
    from auris.bulk import Outcome, ResultsFile, input_of, irregular, source_of
    from auris.calls import reading_of
    from auris.pipeline import AsrPipeline

    if found.others:
        sys.stderr.write(f"auris: {found.others} files are no recordings by their names\n")
    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    reading = reading_of({"chunk_seconds": chunk_seconds, "vad": vad}, pipeline.traits)
    run = {
        "model": pipeline.model.name,
        "dtype": str(pipeline.backend.dtype).removeprefix("torch."),
        "language": language,
        "context": context,
        "chunk_seconds": reading.chunk_seconds,
        "input": input_of(input_dir, found.names),
    }
    # Only what is asked, so that results of runs without these can be continued.
    asked = {"languages": listed(languages), "vad": reading.vad, "formats": formats}
    run |= {name: value for name, value in asked.items() if value}
    with ResultsFile(output, run) as results:
        if retry:
            results.forget_failures()
        for name in list(results.missing(found.names)):
            if failure := irregular(source_of(input_dir, name)):
                results.append(Outcome(name, failure))
        names = list(results.missing(found.names))
        sources = [source_of(input_dir, name) for name in names]
        with _bar(results, len(found.names)) as progress:
            for number, result in pipeline.results(
                sources,
                language,
                context,
                batch_size=batch_size,
                batch_seconds=batch_seconds,
                workers=min(workers, len(sources)),
                languages=listed(languages),
                chunk_seconds=reading.chunk_seconds,
                vad=reading.vad,
                progress=progress,
            ):
                # Files come first: what the results name as done has its files.
                if beside is not None and not isinstance(result, Failure):
                    beside.write(names[number], result)
                results.append(Outcome(names[number], result))
        failed = {name: results.failed[name] for name in found.names if name in results.failed}
        sys.stderr.write(
            f"auris: {len(found.names) - len(failed)} of {len(found.names)} recordings are "
            f"transcribed in {str(output)!r}\n"
        )
    _tell(failed)


def _found(folder: Path | None, files: str | None) -> Found:
    from auris.bulk import listed, recordings_in

    if (folder is None) == (files is None):
        raise UsageError(
            "Recordings come from --input-dir or from --files",
            "both are given" if folder is not None else "neither is given",
            "name one of them",
        )
    if folder is not None:
        found = recordings_in(folder)
    elif files == "-":
        found = listed(sys.stdin)
    else:
        try:
            with open(str(files), encoding="utf-8-sig", errors="surrogateescape") as lines:
                found = listed(lines)
        except OSError as error:
            raise UsageError(
                "--files has to be a readable text file",
                f"{files!r} is not ({error.strerror})",
                "check the path",
            ) from None
    if not found.names:
        raise UsageError(
            "There has to be a recording to transcribe", "none was found", "check the input"
        )
    return found


def _beside(
    directory: Path | None, formats: list[str], found: Found, folder: bool
) -> TranscriptFiles | None:
    """Files beside the results, if any are asked."""
    if (directory is None) != (not formats):
        raise UsageError(
            "-f and --output-dir belong together",
            "one of them is given",
            "give both, or neither for the results file alone",
        )
    if directory is None:
        return None
    from auris.transcript_files import TranscriptFiles, names_in_folder

    places = names_in_folder(found.names) if folder else {n: file_stem(n) for n in found.names}
    return TranscriptFiles(directory, formats, places)


def _tell(failed: dict[str, str]) -> None:
    """Failures with their reasons; ends the program if there are any."""
    for name, reason in list(failed.items())[:MOST_SHOWN]:
        sys.stderr.write(f"auris: {name}: {reason}\n")
    if len(failed) > MOST_SHOWN:
        sys.stderr.write(f"auris: and {len(failed) - MOST_SHOWN} more, see the results file\n")
    if failed:
        raise typer.Exit(1)


@contextmanager
def _bar(results: ResultsFile, files: int) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on standard error, when that is a terminal: files, hours of audio, speed, time left."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as columns
    from rich.console import Console

    already, began = len(results), time.monotonic()
    with columns.Progress(
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TextColumn(
            "files, {task.fields[hours]:.2f} h, {task.fields[speed]:.0f} x real time,"
        ),
        columns.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("", total=files, completed=already, hours=0.0, speed=0.0)

        def show(progress: Progress) -> None:
            speed = progress.seconds / max(time.monotonic() - began, 1e-3)
            done = already + progress.recordings
            bar.update(task, completed=done, hours=progress.seconds / 3600, speed=speed)

        yield show
