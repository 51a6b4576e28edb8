"""`auris transcribe`: recordings to text."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.options import Device, Dtype, Model, Threads
from auris.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from auris.batching import Failure
    from auris.pipeline import Progress
    from auris.types import Transcript

FORMATS = ("txt", "json")
LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(transcribe)


def transcribe(
    call: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Recordings; - is standard input."),
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option("--audio", help="A recording, like FILE. Repeatable.")
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Most pieces decoded at once, over all files.")
    ] = 1,
    language: Annotated[
        str, typer.Option("--language", "-l", help="auto, or a code or English name to force.")
    ] = "auto",
    context: Annotated[
        str, typer.Option(help="Names and words to expect; models with a decoder only.")
    ] = "",
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Token budget of a piece; by default 64, and 16 a second."),
    ] = None,
    chunk_seconds: Annotated[
        float, typer.Option(help="Cut longer recordings at quiet places about this far apart.")
    ] = 30.0,
    start: Annotated[float, typer.Option(help="First second to transcribe.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds to transcribe.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the best token, above it draws.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    word_timestamps: Annotated[
        bool, typer.Option("--word-timestamps", help="Give every word its times; with -f json.")
    ] = False,
    aligner: Annotated[
        str | None,
        typer.Option(help="Model that places the words; the model's own CTC head by default."),
    ] = None,
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", help="txt or json.")
    ] = "txt",
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Write NAME.txt or NAME.json there, not stdout."),
    ] = None,
) -> None:
    """Transcribe recordings of any format.

    Text goes to standard output: one line a file, with the file's name before it when there are
    several; with -f json one JSON object a line. Among several files the good ones are still
    transcribed; the exit code is 1 when one failed.
    """
    sources = [*(files or []), *(audio or [])]
    targets = _targets(sources, output_format, output_dir)
    _check_words(word_timestamps, aligner, output_format)
    from auris.align import ForcedAligner
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    placing = (
        None
        if aligner is None
        else ForcedAligner.from_pretrained(aligner, device=device, dtype=dtype)
    )
    with _progress(len(sources)) as progress:
        results = pipeline.results(
            list(sources),
            language,
            context,
            batch_size=batch_size,
            chunk_seconds=chunk_seconds,
            start=start,
            duration=duration,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            word_timestamps=word_timestamps,
            aligner=placing,
            progress=progress,
        )
        failed = _write(results, sources, targets, output_format, debug=bool(call.obj))
    if failed:
        raise typer.Exit(1)


def _check_words(asked: bool, aligner: str | None, output_format: str) -> None:
    if asked and output_format == "txt":
        raise UsageError(
            "--word-timestamps need a format that holds times",
            "txt holds the text alone",
            "add -f json",
        )
    if aligner is not None and not asked:
        raise UsageError(
            "--aligner is the model for --word-timestamps",
            "these were not asked",
            "add --word-timestamps",
        )


def _targets(sources: list[str], output_format: str, directory: Path | None) -> list[Path | None]:
    """Where each recording's result goes; None is standard output."""
    if not sources:
        raise UsageError(
            "There has to be a recording to transcribe",
            "none was named",
            "name a FILE, or - for standard input",
        )
    if output_format not in FORMATS:
        raise UsageError(
            f"The output format has to be {' or '.join(FORMATS)}",
            f"{output_format!r} was asked",
            "choose one with -f",
        )
    if directory is None and sys.stdout is None:
        raise OutputError(
            "Standard output has to be open to be written", "it is closed", "name an --output-dir"
        )
    if directory is None:
        return [None] * len(sources)
    stems = ["stdin" if name == "-" else Path(name).stem for name in sources]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UsageError(
            "With --output-dir every recording has to have a name of its own",
            f"there are several called {twice[0]!r}",
            "transcribe them in separate calls or rename them",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "--output-dir has to be a directory that can be written",
            f"{str(directory)!r} cannot be made ({error.strerror})",
            "name another",
        ) from None
    return [directory / f"{stem}.{output_format}" for stem in stems]


def _write(
    results: Iterator[tuple[int, Transcript | Failure]],
    sources: list[str],
    targets: list[Path | None],
    output_format: str,
    debug: bool,
) -> int:
    """Write results in the order of the recordings, each as soon as that allows.

    Returns:
        how many failed.
    """
    from auris.batching import Failure

    waiting: dict[int, Transcript | Failure] = {}
    following = failed = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            name, result = sources[following], waiting.pop(following)
            if isinstance(result, Failure):
                failed += 1
                if debug:
                    traceback.print_exception(result.error)
                sys.stderr.write(f"auris: {_shown(name)}: {result.error}\n")
            else:
                heading = f"{_shown(name)}: " if output_format == "txt" and len(sources) > 1 else ""
                try:
                    _write_one(result, name, heading, targets[following], output_format)
                except OutputError as error:
                    failed += 1
                    sys.stderr.write(f"auris: {_shown(name)}: {error}\n")
                failed += result.silent
                _remark(result, _shown(name))
            following += 1
    return failed


def _remark(result: Transcript, name: str) -> None:
    """What a reader of the text alone would not see."""
    if result.silent:
        sys.stderr.write(
            f"auris: {name}: A recording has to hold sound, but this one is silent throughout: "
            "check the microphone, the channel and the span.\n"
        )
    elif result.finish_reason == "length":
        sys.stderr.write(
            f"auris: {name}: the text is cut at the token budget; raise --max-new-tokens\n"
        )
    elif not result.text:
        sys.stderr.write(f"auris: {name}: no speech was found\n")


def _shown(name: str) -> str:
    """A name that stays on its line: what would break it is written as in JSON."""
    return LINE_BREAKING.sub(lambda found: json.dumps(found.group())[1:-1], name)


def _write_one(
    result: Transcript, name: str, heading: str, target: Path | None, output_format: str
) -> None:
    from auris.writers import WRITERS

    content = WRITERS[output_format](result, name)
    if target is None:
        sys.stdout.write(heading + content)
        sys.stdout.flush()
        return
    try:
        target.write_text(content, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            "--output-dir has to be a directory that can be written",
            f"{str(target)!r} cannot be ({error.strerror})",
            "name another",
        ) from None


@contextmanager
def _progress(files: int) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on standard error, when that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[seconds]:.0f} s of audio"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # Lines beside the bar go to its terminal, so the text may, unless it goes elsewhere.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task("", total=files, seconds=0.0)
        yield lambda p: bar.update(task, completed=p.recordings, seconds=p.seconds)
