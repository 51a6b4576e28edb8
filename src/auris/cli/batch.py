"""`auris batch`: folders and lists of recordings to one results file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from auris.cli.corpus import (
    CorpusOptions,
    loaded_transcriber,
    merge,
    status,
    transcribe_shards,
    worker_start,
)
from auris.cli.declare import option, with_options
from auris.cli.interrupt import INTERRUPTED, interruptible
from auris.cli.options import BatchSize, CueOptions, Lm, ModelOptions, Speculate, SpeechOptions
from auris.cli.output import (
    Output,
    cue_style,
    display_name,
    distinct_stems,
    file_stem,
    parse_formats,
    relative_stem,
)
from auris.cli.progress import ProgressLine
from auris.errors import UnreadableAudio, UsageError
from auris.types import Transcript

if TYPE_CHECKING:
    from auris.audio.listing import RecordingNames
    from auris.output.results_file import ResultsFile
    from auris.pipeline import AsrPipeline
    from auris.recognition.options import CallOptions
    from auris.recognition.scheduler import Failure

MOST_SHOWN = 20
"""Maximum number of failures that are listed at the end; the results file has all of them."""


app = typer.Typer(name="batch")


@app.callback(invoke_without_command=True)
@with_options
def batch(
    call: typer.Context,
    model: ModelOptions,
    speech: SpeechOptions,
    cues: CueOptions,
    corpus: CorpusOptions,
    output: Annotated[
        str | None,
        option(
            "Results file, new or of an earlier run: JSON lines, or one JSON array if the name "
            "ends in .json. With --input a folder or an address.",
            default="needed",
        ),
    ] = None,
    input_dir: Annotated[Path | None, option("Folder of recordings, with its subfolders.")] = None,
    files: Annotated[
        str | None, option("Text file with one recording per line; - is standard input.")
    ] = None,
    speculate: Speculate = "none",
    lm: Lm = "auto",
    batch_size: BatchSize = 8,
    workers: Annotated[
        int, option("Processes that read recordings ahead. Results are the same.", min=0)
    ] = 0,
    output_format: Annotated[
        list[str] | None,
        option(
            "Also write files in these formats to --output-dir. Repeatable.",
            "--output-format",
            "-f",
            default="none",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, option("Folder for the files of -f.", "--output-dir", "-o")
    ] = None,
    retry: Annotated[bool, option("Transcribe failed recordings again.", "--retry")] = False,
) -> None:
    """Transcribe many recordings into one results file, or a corpus in shards.

    The same command continues a run that was interrupted or killed, without repeating recordings
    that are finished. The exit code is 1 when a recording failed, and 130 after Ctrl-C.

    With --input any number of processes on any machines run the same command and share the work;
    status shows how far they are, and merge writes one file of their results and counts those that
    failed.
    """
    if call.invoked_subcommand is not None:
        return
    speech.check()
    if output is None:
        raise UsageError("--output is needed", "it is missing", "name a file, or a folder")
    if corpus.input_source is not None:
        _refuse_with_input(input_dir, files, output_format, output_dir, retry)
        _transcribe_corpus(model, speech, corpus, output, (speculate, lm), batch_size, workers)
    if corpus != CorpusOptions():
        raise UsageError(
            "Options of corpora on several machines need --input",
            "that is not given",
            "add it, or leave them out",
        )
    recordings = _recordings(input_dir, files)
    names = recordings.names
    transcripts = _transcript_files(names, input_dir, output_format or [], output_dir, cues)
    if recordings.others:
        sys.stderr.write(
            f"auris: {recordings.others} files without the suffix of a recording are left out\n"
        )
    pipeline = model.pipeline(speculate, lm, speech.beam_size)
    options = speech.call(model)
    identity = _identity(pipeline, input_dir, speech, options, transcripts)
    options |= {"batch_size": batch_size, "workers": workers}
    from auris.output.results_file import ResultsFile

    with ResultsFile(Path(output), identity) as results:
        if retry:
            results.forget_failures()
        interrupted = _transcribe(pipeline, input_dir, speech, options, results, transcripts)
        results.publish(names)
    raise typer.Exit(_report(results, names, interrupted))


def _transcript_files(
    names: list[str],
    folder: Path | None,
    output_format: list[str],
    output_dir: Path | None,
    cues: CueOptions,
) -> Output:
    """The files of -f, a name for each recording."""
    formats = sorted(parse_formats(output_format))
    style = cue_style(formats, cues)
    if (output_dir is None) != (not formats):
        raise UsageError(
            "-f and --output-dir need each other",
            "only one of them is given",
            "give both, or neither for the results file alone",
        )
    stem = file_stem if folder is None else relative_stem
    stems = distinct_stems(names, stem) if formats else {}
    return Output(names, formats, stems, output_dir or Path(), style)


def _identity(
    pipeline: AsrPipeline,
    folder: Path | None,
    speech: SpeechOptions,
    options: CallOptions,
    transcripts: Output,
) -> dict[str, Any]:
    """What a run has to have in common with the one that it continues."""
    from auris.audio.listing import input_of
    from auris.recognition.fingerprint import call_values

    values = {
        "model": pipeline.model.name,
        "input": input_of(folder, list(transcripts.sources)),
        **call_values(pipeline, speech.language, speech.context, options),
    }
    # Only where files are written, so that results of runs without them can be continued.
    if transcripts.formats:
        style = transcripts.style
        values["formats"] = transcripts.formats
        values["cues"] = [style.max_line_width, style.max_line_count]
    return values


def _transcribe(
    pipeline: AsrPipeline,
    folder: Path | None,
    speech: SpeechOptions,
    options: CallOptions,
    results: ResultsFile,
    transcripts: Output,
) -> bool:
    """Transcribe the recordings without a result; returns whether Ctrl-C ended it."""
    from auris.audio.listing import source_of

    names = list(transcripts.sources)
    done = len(names) - len(results.missing(names))
    with ProgressLine(len(names), done=done) as line, interruptible() as interrupt:
        missing = _missing(results, folder, names)
        sources = [source_of(folder, name) for name in missing]
        options["workers"] = min(options["workers"], len(sources))
        options |= {"progress": line.show, "cancel": interrupt}
        for number, result in pipeline.results(sources, speech.language, speech.context, **options):
            if interrupt.is_set():
                break  # The recordings in progress are not complete.
            _store(results, missing[number], result, transcripts, line)
    return interrupt.is_set()


def _transcribe_corpus(
    model: ModelOptions,
    speech: SpeechOptions,
    corpus: CorpusOptions,
    output: str,
    search: tuple[str, str],
    batch_size: int,
    workers: int,
) -> NoReturn:
    """Work on the shards of a corpus and end the command."""
    settings, start = corpus.settings(), worker_start(corpus.worker)
    transcriber = loaded_transcriber(model, speech, *search, batch_size, workers)
    raise typer.Exit(transcribe_shards(transcriber, settings, output, start))


def _refuse_with_input(*others: object) -> None:
    names = ("--input-dir", "--files", "-f", "--output-dir", "--retry")
    given = [name for name, value in zip(names, others, strict=True) if value]
    if given:
        raise UsageError(
            f"--input cannot be used with {', '.join(names)}",
            f"{' and '.join(given)} is given",
            "leave it out; auris batch merge writes other formats",
        )


def _report(results: ResultsFile, names: list[str], interrupted: bool) -> int:
    """Write what is done, what failed and what is left; returns the exit code."""
    left = len(results.missing(names))
    failed = {name: results.failed[name] for name in names if name in results.failed}
    done = len(names) - left - len(failed)
    path = str(results.path)
    sys.stderr.write(f"auris: {done} of {len(names)} recordings are transcribed in {path!r}\n")
    for name, reason in list(failed.items())[:MOST_SHOWN]:
        sys.stderr.write(f"auris: {name}: {reason}\n")
    if len(failed) > MOST_SHOWN:
        sys.stderr.write(f"auris: and {len(failed) - MOST_SHOWN} more, see the results file\n")
    if left and interrupted:
        sys.stderr.write(
            f"auris: interrupted: {left} recordings are left; the same command continues\n"
        )
        return INTERRUPTED
    return 1 if failed else 0


def _missing(results: ResultsFile, folder: Path | None, names: list[str]) -> list[str]:
    """The recordings without a result. Those that are no regular files get their failure here."""
    from auris.audio.listing import check_regular, source_of
    from auris.recognition.scheduler import Failure

    for name in results.missing(names):
        try:
            check_regular(source_of(folder, name))
        except UnreadableAudio as error:
            results.append(name, Failure(error))
    return results.missing(names)


def _store(
    results: ResultsFile,
    name: str,
    result: Transcript | Failure,
    output: Output,
    line: ProgressLine,
) -> None:
    from auris.output.formats import WRITERS

    if isinstance(result, Transcript):
        # The files come first: a recording that has a result has its files.
        for form in output.formats:
            output.write(name, form, WRITERS[form](result, name, output.style), line)
        for warning in result.warnings:
            line.warn(display_name(name), warning)
    results.append(name, result)


def _recordings(folder: Path | None, files: str | None) -> RecordingNames:
    from auris.audio.listing import listed, recordings_in

    if (folder is None) == (files is None):
        raise UsageError(
            "Recordings come from --input-dir, from --files or from --input",
            "both are given" if folder is not None else "neither is given",
            "give one of them",
        )
    if folder is not None:
        recordings = recordings_in(folder)
    elif files == "-":
        recordings = listed(sys.stdin)
    else:
        try:
            with open(str(files), encoding="utf-8-sig", errors="surrogateescape") as lines:
                recordings = listed(lines)
        except OSError as error:
            raise UsageError(
                "--files has to be a readable text file",
                f"{files!r} is not ({error.strerror})",
                "check the path",
            ) from None
    if not recordings.names:
        raise UsageError("The input has no recordings", "", "check --input-dir or --files")
    return recordings


for command in (status, merge):
    app.command()(with_options(command))
