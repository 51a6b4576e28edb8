"""`auris batch`: folders and lists of recordings to one results file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.interrupt import INTERRUPTED, Interrupt, interruptible
from auris.cli.options import (
    BatchSize,
    CueOptions,
    ModelOptions,
    Speculate,
    SpeechOptions,
    with_options,
)
from auris.cli.output import chosen_formats, cue_style, file_stem, shown
from auris.cli.progress import ProgressLine
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.output.files import TranscriptFiles
    from auris.output.results_file import Found, ResultsFile
    from auris.output.subtitles import CueStyle
    from auris.pipeline import AsrPipeline
    from auris.recognition.options import CallOptions
    from auris.recognition.scheduler import Failure
    from auris.types import Transcript

MOST_SHOWN = 20
"""Failures that are told at the end; all are in the results file."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(with_options(batch))


def batch(
    output: Annotated[
        Path,
        typer.Option(
            help="Results file, made or continued: JSON lines, or one JSON array where the name "
            "ends in .json."
        ),
    ],
    model: ModelOptions,
    speech: SpeechOptions,
    cues: CueOptions,
    input_dir: Annotated[
        Path | None, typer.Option(help="Folder of recordings, with the folders in it.")
    ] = None,
    files: Annotated[
        str | None, typer.Option(help="Text file with a recording a line; - is standard input.")
    ] = None,
    speculate: Speculate = "none",
    batch_size: BatchSize = 8,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read recordings ahead; results are the same.")
    ] = 0,
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
    """Transcribe many recordings into one results file.

    A run that broke off, however it did, is continued by the same command: finished recordings are
    kept once, the others are done. The exit code is 1 when a recording failed, and 130 after
    Ctrl-C.
    """
    speech.check()
    found = _found(input_dir, files)
    formats = sorted(chosen_formats(output_format or []))
    style = cue_style(formats, cues.max_line_width, cues.max_line_count)
    beside = _beside(output_dir, formats, found, input_dir is not None, style)
    from auris.output.results_file import ResultsFile, input_of
    from auris.pipeline import AsrPipeline
    from auris.recognition.fingerprint import call_values

    if found.others:
        sys.stderr.write(f"auris: {found.others} files are no recordings by their names\n")
    pipeline = AsrPipeline.from_pretrained(model.model, speculate=speculate, **model.loading())
    options = speech.call(model)
    run = {
        "model": pipeline.model.name,
        "input": input_of(input_dir, found.names),
        **call_values(pipeline, speech.language, speech.context, options),
    }
    # Only what is asked, so that results of runs without files beside them can be continued.
    if formats:
        run |= {"formats": formats, "cues": [style.max_line_width, style.max_line_count]}
    with ResultsFile(output, run) as results:
        if retry:
            results.forget_failures()
        job = _Job(pipeline, input_dir, speech, options, results, beside)
        done = sum(name in results for name in found.names)
        with ProgressLine(len(found.names), done=done) as line, interruptible() as interrupt:
            job.run(found.names, line, interrupt, batch_size, workers)
        results.publish(found.names)
        failed = {name: results.failed[name] for name in found.names if name in results.failed}
        left = len(list(results.missing(found.names)))
    done = len(found.names) - left - len(failed)
    sys.stderr.write(
        f"auris: {done} of {len(found.names)} recordings are transcribed in {str(output)!r}\n"
    )
    _tell(failed)
    if left and interrupt.is_set():
        sys.stderr.write(
            f"auris: interrupted: {left} recordings are left; the same command goes on with them\n"
        )
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Job:
    """What a run does with its recordings."""

    pipeline: AsrPipeline
    folder: Path | None
    speech: SpeechOptions
    options: CallOptions
    results: ResultsFile
    beside: TranscriptFiles | None

    def run(
        self,
        names: list[str],
        line: ProgressLine,
        interrupt: Interrupt,
        batch_size: int,
        workers: int,
    ) -> None:
        """Transcribe what is missing, until there is no more or the user has had enough."""
        from auris.output.results_file import RowResult, irregular, source_of

        for name in list(self.results.missing(names)):
            if failure := irregular(source_of(self.folder, name)):
                self.results.append(RowResult(name, failure))
        missing = list(self.results.missing(names))
        sources = [source_of(self.folder, name) for name in missing]
        options = self.options.copy()
        options["batch_size"] = batch_size
        options["workers"] = min(workers, len(sources))
        options["progress"] = line.show
        options["cancel"] = interrupt
        found = self.pipeline.results(sources, self.speech.language, self.speech.context, **options)
        for number, result in found:
            if interrupt.is_set():
                return  # What was under way is not complete.
            self._keep(missing[number], result, line)

    def _keep(self, name: str, result: Transcript | Failure, line: ProgressLine) -> None:
        from auris.output.results_file import RowResult
        from auris.recognition.scheduler import Failure

        if not isinstance(result, Failure):
            # Files come first: what the results name as done has its files.
            if self.beside is not None:
                self.beside.write(name, result)
            for warning in result.warnings:
                if warning not in line.noted:
                    line.note(f"{shown(name)}: {warning}")
        self.results.append(RowResult(name, result))


def _found(folder: Path | None, files: str | None) -> Found:
    from auris.output.results_file import listed, recordings_in

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
    directory: Path | None, formats: list[str], found: Found, folder: bool, style: CueStyle
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
    from auris.output.files import TranscriptFiles, names_in_folder

    places = names_in_folder(found.names) if folder else {n: file_stem(n) for n in found.names}
    return TranscriptFiles(directory, formats, places, style)


def _tell(failed: dict[str, str]) -> None:
    """Failures with their reasons."""
    for name, reason in list(failed.items())[:MOST_SHOWN]:
        sys.stderr.write(f"auris: {name}: {reason}\n")
    if len(failed) > MOST_SHOWN:
        sys.stderr.write(f"auris: and {len(failed) - MOST_SHOWN} more, see the results file\n")
