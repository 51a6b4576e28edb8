"""Runs over corpora: their options, and what `auris batch` does with shards."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auris.cli.declare import option
from auris.cli.interrupt import INTERRUPTED, interruptible
from auris.cli.options import ModelOptions, OutputFormat, SpeechOptions
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.scale.plan import Plan, Shard
    from auris.scale.run import CorpusSettings
    from auris.scale.transcriber import ShardTranscriber
    from auris.scale.worker import WorkerReport

RunFolder = Annotated[
    str, typer.Argument(metavar="RUN", help="Folder or address that --output named.")
]


CORPORA = "Corpora on several machines"
"""Heading of the help."""


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read and divided into shards."""

    input_source: Annotated[
        str | None,
        option(
            "Corpus on any filesystem of fsspec, such as s3://bucket/calls/**/*.opus: a folder, a "
            "pattern, a list (.txt), a NeMo manifest or Lhotse cuts (.jsonl), Parquet or tar "
            "files. --output is then a folder or an address.",
            "--input",
            default="none",
            group=CORPORA,
        ),
    ] = None
    input_format: Annotated[
        Literal["auto", "files", "list", "nemo", "lhotse", "parquet", "tar"],
        option("Format of --input; auto decides by its name.", group=CORPORA),
    ] = "auto"
    audio_column: Annotated[str, option("Column of Parquet files with audio.", group=CORPORA)] = (
        "audio"
    )
    headers: Annotated[
        bool,
        option(
            "Read the durations of files from their headers, for shards of equal length.",
            "--headers",
            group=CORPORA,
        ),
    ] = False
    shard_seconds: Annotated[float, option("Audio of a shard, with --input.", group=CORPORA)] = (
        3600.0
    )
    worker: Annotated[
        str | None,
        option(
            "Number of this process and of all, such as 3/64: where in the plan it begins, with "
            "--input.",
            default="anywhere",
            group=CORPORA,
        ),
    ] = None
    lease_seconds: Annotated[
        float,
        option(
            "Time after which the shard of a process that has ended is taken over.", group=CORPORA
        ),
    ] = 120.0

    def settings(self) -> CorpusSettings:
        """The settings of a run."""
        from auris.scale.run import CorpusSettings
        from auris.scale.storage import absolute

        if self.input_source is None:
            raise UsageError("A corpus has to be named", "--input is missing", "add it")
        return CorpusSettings(
            absolute(self.input_source),
            self.input_format,
            self.audio_column,
            self.headers,
            self.shard_seconds,
            self.lease_seconds,
        )


def worker_start(worker: str | None) -> float:
    """Where in the plan a worker begins, from 0 to 1; by default anywhere.

    Raises:
        UsageError: it is not of the form 3/64.
    """
    if worker is None:
        import random

        return random.random()
    match = re.fullmatch(r"(\d+)/(\d+)", worker)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(
            "--worker has to be its number and the number of workers, such as 3/64",
            f"it is {worker!r}",
            "count from 1",
        )
    return (number - 1) / count


def loaded_transcriber(
    model: ModelOptions,
    speech: SpeechOptions,
    speculate: str,
    lm: str,
    batch_size: int,
    workers: int,
) -> ShardTranscriber:
    """Load the model, and what transcribes shards with it."""
    from auris.scale.transcriber import ShardTranscriber

    options = speech.call(model) | {"batch_size": batch_size, "workers": workers}
    pipeline = model.pipeline(speculate, lm, speech.beam_size)
    return ShardTranscriber(pipeline, speech.language, speech.context, options)


def transcribe_shards(
    transcriber: ShardTranscriber, settings: CorpusSettings, output: str, start: float
) -> int:
    """Work on the shards of a corpus; returns the exit code."""
    from auris.scale.run import transcribe_corpus

    progress = ShardProgress()
    report: WorkerReport | None = None
    with interruptible() as interrupt:
        report = transcribe_corpus(
            transcriber,
            output,
            settings,
            start,
            stopped=interrupt.is_set,
            begun=progress.begin,
            report=progress.show,
            waiting=progress.wait,
        )
    if report is None or (interrupt.is_set() and report.left):
        return progress.interrupted()
    return progress.end(report)


class ShardProgress:
    """Writes lines about shards to standard error."""

    def __init__(self) -> None:
        self._shards = 0
        self._done = 0

    def begin(self, plan: Plan, finished: int) -> None:
        """Describe the plan."""
        self._shards = len(plan.shards)
        basis = ", ".join(f"{count} by {name}" for name, count in sorted(plan.basis.items()))
        sys.stderr.write(
            f"auris: {len(plan.shards)} shards of {plan.seconds / 3600:.2f} hours (measured: "
            f"{basis}), {finished} are finished\n"
        )

    def show(self, shard: Shard) -> None:
        """Report a finished shard."""
        self._done += 1
        sys.stderr.write(
            f"auris: shard {shard.name} is finished, {self._done} here of {self._shards}: "
            f"{shard.units} units, {shard.seconds:.1f} s\n"
        )

    def wait(self, shards: int) -> None:
        """Say what this process waits for."""
        reason = f"work on the {shards} shards that are left" if shards else "plan the corpus"
        sys.stderr.write(
            f"auris: waiting for other processes, which {reason}; those that have ended are "
            "replaced after --lease-seconds\n"
        )

    def interrupted(self) -> int:
        """Say how to go on; returns the exit code."""
        sys.stderr.write("auris: interrupted; the same command continues\n")
        return INTERRUPTED

    def end(self, report: WorkerReport) -> int:
        """Report what is done and what is left; returns the exit code."""
        for name, reason in report.failed.items():
            sys.stderr.write(f"auris: shard {name} is given up: {reason}\n")
        sys.stderr.write(
            f"auris: {report.done} shards are transcribed here, {report.left} are left\n"
        )
        return 1 if report.left else 0


def status(run: RunFolder, output_format: OutputFormat = "txt") -> None:
    """Show how far a run of auris batch --input has come."""
    from auris.scale.leases import FOLDER, latest_generations

    plan = _plan(run)
    finished = plan.finished()
    done = [shard for shard in plan.shards if shard.name in finished]
    leases = latest_generations(plan.storage.names(FOLDER))
    running = {s.name: leases[s.name] for s in plan.shards if s.name in leases}
    running = {name: ends for name, ends in running.items() if name not in finished}
    content = {
        "shards": len(plan.shards),
        "finished": len(done),
        "leased": len(running),
        "seconds": round(plan.seconds, 3),
        "finished_seconds": round(sum(shard.seconds for shard in done), 3),
        "measured": dict(plan.basis),
        "ended_workers": {name: ends for name, ends in running.items() if ends},
    }
    if output_format == "json":
        typer.echo(json.dumps(content))
        return
    hours = (sum(shard.seconds for shard in done) / 3600, plan.seconds / 3600)
    typer.echo(f"{len(done)} of {len(plan.shards)} shards are finished, {len(running)} are leased")
    typer.echo(f"{hours[0]:.2f} of {hours[1]:.2f} hours of audio")
    for name, ends in running.items():
        if ends:
            typer.echo(f"shard {name}: {ends} workers ended while they worked on it")


def merge(
    run: RunFolder,
    out: Annotated[str, typer.Argument(metavar="OUT", help="File or address to write.")],
    output_format: Annotated[
        str | None,
        option(
            "jsonl, parquet, nemo (a manifest) or lhotse (supervisions).",
            "--output-format",
            "-f",
            default="by the name",
        ),
    ] = None,
    partial: Annotated[bool, option("Merge the finished shards of a run.", "--partial")] = False,
) -> None:
    """Merge the results of auris batch --input into one file, in the order of the input."""
    from auris.scale.run import merged_lines
    from auris.scale.sinks import sink_format, write_merged

    form = sink_format(out, output_format)
    lines = _CountedLines(merged_lines(_plan(run), partial))
    count = write_merged(lines, out, form)
    sys.stderr.write(
        f"auris: {count} recordings are written to {out!r}, {lines.failed} of them failed\n"
    )
    if lines.failed:
        raise typer.Exit(1)


class _CountedLines:
    """Lines of results, of which those with errors are counted."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.failed = 0
        self._lines = lines

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            # Quotation marks inside a text are escaped.
            self.failed += b'"segments": ' not in line
            yield line


def _plan(run: str) -> Plan:
    from auris.scale.leases import FOLDER, latest_generations
    from auris.scale.plan import PLAN, read_plan
    from auris.scale.storage import Storage

    storage = Storage(run)
    plan = read_plan(storage)
    if plan is None:
        planning = PLAN in latest_generations(storage.names(FOLDER))
        raise UsageError(
            "RUN has to be the --output of auris batch --input",
            f"{run!r} has no {PLAN}" + (" yet: its corpus is being planned" if planning else ""),
            "try again later" if planning else "check the address",
        )
    return plan
