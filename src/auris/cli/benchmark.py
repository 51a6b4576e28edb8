"""`auris benchmark`: measurements, each ending in one line of JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from auris.cli.options import ChunkSeconds, Device, Dtype, Model, Speculate, Threads, Vad
from auris.errors import UsageError

Value = TypeVar("Value")

TestSets = Annotated[
    list[str],
    typer.Option(
        help="CSV with the columns wav and text, a folder, or one as of LibriSpeech. Repeatable."
    ),
]

app = typer.Typer(name="benchmark", help="Measure; the last line is JSON.")


@app.callback(invoke_without_command=True)
def _group(
    call: typer.Context,
    test_set: Annotated[
        list[str] | None,
        typer.Option(help="Without a command: the error rates of a set, as by wer. Repeatable."),
    ] = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Measure; the last line is JSON. With --test-set and no command, as wer."""
    if call.invoked_subcommand is None:
        if not test_set:
            typer.echo(call.get_help())
            raise typer.Exit(2)
        wer(test_set, model, device)
    elif test_set or model or device:
        raise UsageError(
            f"Options of {call.invoked_subcommand} stand behind it",
            "some stand before it",
            "move them",
        )


@app.command()
def load(
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="Model to load. Repeatable: runs interleave.")
    ],
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each, after one warm-up.")] = 5,
    seconds: Annotated[float, typer.Option(help="Length of the first clip.")] = 10.0,
    tokens: Annotated[int, typer.Option(min=1, help="Token budget of the first clip.")] = 20,
    dtype: Annotated[str, typer.Option(help="As for transcribe.")] = "auto",
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Time from warm file to ready, memory after loading and after the first transcript."""
    import json
    from dataclasses import asdict

    from auris.evaluation.loading import help_seconds, interleaved

    given = {"dtype": dtype, "device": device, "threads": threads}
    rows = list(interleaved(model, runs, seconds, tokens, **given))
    answer = help_seconds(runs)
    typer.echo(
        f"{'ready s':>8} {'first s':>8} {'weights GB':>11} {'ready GB':>9} {'used GB':>8}  model"
    )
    for row in rows:
        typer.echo(
            f"{row.ready_seconds:>8.2f} {row.first_seconds:>8.2f} {row.weight_gb:>11.2f} "
            f"{row.ready_gb:>9.2f} {row.used_gb:>8.2f}  {row.model}"
        )
    typer.echo(f"auris --help: {answer:.2f} s")
    typer.echo(json.dumps({"help_seconds": answer, "models": [asdict(row) for row in rows]}))


@app.command()
def speed(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As for transcribe. Repeatable: runs interleave."),
    ] = None,
    seconds: Annotated[str, typer.Option(help="Lengths of the clips, by commas.")] = "10,30,60",
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to decode of every clip.")] = 100,
    dtype: Annotated[
        str, typer.Option(help="As for transcribe; several by commas are interleaved.")
    ] = "auto",
    peers: Annotated[
        str, typer.Option(help="Other programs on the same weights, by commas: transformers.")
    ] = "",
    batch: Annotated[
        str, typer.Option(help="Rows decoded at once, by commas, of the shortest clip.")
    ] = "1,4,16",
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each, after one more.")] = 5,
    threads: Threads = None,
    parts: Annotated[
        str, typer.Option(help="What to measure, by commas: stages, decoding, start.")
    ] = "stages,decoding,start",
    clock: Annotated[
        str,
        typer.Option(help="wall; or processor, of one thread, where other programs are running."),
    ] = "wall",
) -> None:
    """Time of every stage on the CPU, beside what the machine could do and what peers take.

    Stages apart, batches, drafts, streams, cold start and memory of Qwen3-ASR models; any weights
    will do, since decoding goes on for a fixed number of tokens. Each stage is shown as a multiple
    of its limit: its multiplications or its bytes at the best rates that this machine reached in
    the same run.
    The last line is JSON.
    """
    import json
    import os

    from auris.checkpoints.hub import DEFAULT_MODEL
    from auris.evaluation.speed_report import SpeedPlan, measure

    plan = SpeedPlan(
        model or [os.environ.get("AURIS_MODEL") or DEFAULT_MODEL],
        _listed("--seconds", seconds, float),
        tokens,
        _listed("--dtype", dtype, str),
        _listed("--peers", peers, str),
        _listed("--batch", batch, int),
        runs,
        threads,
        clock,
        _listed("--parts", parts, str),
    )
    summary: dict[str, Any] = {}
    for line in measure(plan, summary):
        typer.echo(line)
    typer.echo(json.dumps(summary))


def _listed(option: str, text: str, kind: Callable[[str], Value]) -> list[Value]:
    """Values of an option that takes several by commas; numbers have to lie from 1 to 1200."""
    try:
        values = [kind(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    sound = all(not isinstance(value, (int, float)) or 1 <= value <= 1200 for value in values)
    if not sound or (not values and text.strip()):
        raise UsageError(
            f"{option} takes numbers from 1 to 1200, or names, by commas",
            f"it is {text!r}",
            "correct it",
        )
    return values


@app.command()
def wer(
    test_set: TestSets,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    speculate: Speculate = "none",
    batch_size: Annotated[int, typer.Option(min=1, help="Most pieces decoded at once.")] = 1,
    normalizer: Annotated[
        str,
        typer.Option(help="english (standard; digits become numbers) or spoken (words as said)."),
    ] = "english",
    chunk_seconds: ChunkSeconds = None,
    vad: Vad = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst clips to show.")] = 3,
) -> None:
    """Word and character error rates, the worst clips and the speed.

    The exit code is 1 when a clip could not be transcribed.
    """
    import json

    from auris.evaluation.loading import peak_gb
    from auris.evaluation.wer import read_set, score_set
    from auris.pipeline import AsrPipeline

    sets = {source: read_set(source) for source in test_set}
    pipeline = AsrPipeline.from_pretrained(
        model, device=device, dtype=dtype, threads=threads, speculate=speculate
    )
    scores = [
        score_set(
            pipeline,
            name,
            clips,
            batch_size=batch_size,
            normalizer=normalizer,
            chunk_seconds=chunk_seconds,
            vad=vad,
        )
        for name, clips in sets.items()
    ]
    typer.echo(
        f"{'WER %':>7} {'CER %':>7} {'sub':>6} {'ins':>6} {'del':>6} {'words':>7} {'RTF':>7}  set"
    )
    for score in scores:
        rates = "".join(
            f"{'-' if rate is None else format(100 * rate, '.2f'):>7} "
            for rate in (score.wer, score.cer)
        )
        typer.echo(
            f"{rates}{score.substitutions:>6} {score.insertions:>6} {score.deletions:>6} "
            f"{score.words:>7} {score.rtf:>7.4f}  {score.name}"
        )
        for file, reason in score.failed.items():
            typer.echo(f"not scored: {file}: {reason}", err=True)
        for clip in score.worst[:worst]:
            typer.echo(f"    {clip.edits}/{clip.words} {clip.file}")
            typer.echo(f"      said {clip.reference!r}, read {clip.hypothesis!r}")
    summary = {
        "model": pipeline.model.name,
        "peak_gb": peak_gb(),
        "sets": [score.to_dict() for score in scores],
    }
    typer.echo(json.dumps(summary))
    if any(score.failed for score in scores):
        raise typer.Exit(1)


@app.command()
def parity(
    test_set: TestSets,
    model: Model = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many clips of each set.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Our texts beside those of transformers (float32, CPU).

    The exit code is 1 when a text differs by more than a tie, or a clip could not be compared.
    """
    import json

    from auris.diagnostics.parity import TIE_MARGIN, Parity
    from auris.evaluation.agreement import compare_set
    from auris.evaluation.wer import read_set

    sets = {source: read_set(source) for source in test_set}
    both = Parity(model, threads)
    typer.echo(
        f"{'clips':>6} {'identical':>9} {'ties':>5} {'different':>9} {'tokens':>8} "
        f"{'minutes':>8}  set"
    )
    scores = []
    for name, clips in sets.items():
        score = compare_set(both, name, list(clips)[:limit])
        scores.append(score)
        typer.echo(
            f"{score.clips:>6} {score.identical:>9} {score.ties:>5} {score.different:>9} "
            f"{score.tokens:>8} {score.seconds / 60:>8.1f}  {name}"
        )
        for file, found in score.differences.items():
            typer.echo(f"    {found.verdict}: {file} {found.note}")
            typer.echo(f"      auris {found.ours!r}, transformers {found.theirs!r}")
        for file, reason in score.failed.items():
            typer.echo(f"not compared: {file}: {reason}", err=True)
    summary = {
        "model": both.pipeline.model.name,
        "tie_margin": TIE_MARGIN,
        "sets": [score.to_dict() for score in scores],
    }
    typer.echo(json.dumps(summary))
    if any(score.different or score.failed for score in scores):
        raise typer.Exit(1)


@app.command()
def words(
    test_set: Annotated[
        list[Path], typer.Option(help="JSONL of recordings with timed words. Repeatable.")
    ],
    fit_set: Annotated[
        Path | None,
        typer.Option(help="Another such set, on which one offset of all times is fitted."),
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
) -> None:
    """Times of aligned words beside known ones, as a synthesizer gives them."""
    import json

    from auris.alignment.aligner import ForcedAligner
    from auris.evaluation.words import errors_of, fit_offset, read_timed

    sets = {path: read_timed(path) for path in test_set}
    fitting = read_timed(fit_set) if fit_set else []
    aligner = ForcedAligner.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    offset = fit_offset(aligner, fitting)
    typer.echo(f"offset {1000 * offset:.0f} ms")
    typer.echo(
        f"{'words':>6} {'missing':>7} {'start ms':>9} {'end ms':>7} {'95 %: start':>12} "
        f"{'end':>5}  set"
    )
    summary = {}
    for path, clips in sets.items():
        errors = summary[str(path)] = errors_of(aligner, clips, offset)
        typer.echo(
            f"{errors.words:>6} {errors.missing:>7} {1000 * errors.start:>9.0f} "
            f"{1000 * errors.end:>7.0f} {1000 * errors.start_95:>12.0f} "
            f"{1000 * errors.end_95:>5.0f}  {path}"
        )
    typer.echo(json.dumps({"sets": {name: found.to_dict() for name, found in summary.items()}}))


@app.command()
def calibration(
    test_set: TestSets,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most pieces decoded at once.")] = 1,
    check_set: Annotated[
        list[str] | None,
        typer.Option(help="Set that is only measured, never fitted to. Repeatable."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write calibration.json beside the model's weights.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write the reliability plot of the other half as PNG.")
    ] = None,
) -> None:
    """Fit confidences on one half of the clips, by a hash of their names; measure on the other.

    Clips with an empty text are silence, noise and music: they teach when nothing is said.
    """
    import json

    from auris.evaluation.fitting import fitted
    from auris.evaluation.wer import read_set

    sets = {source: read_set(source) for source in test_set}
    checks = {source: read_set(source) for source in check_set or ()}
    report = fitted(
        model, sets, checks, batch_size, write, plot, device=device, dtype=dtype, threads=threads
    )
    for file, reason in report.failed.items():
        typer.echo(f"not heard: {file}: {reason}", err=True)
    typer.echo(
        f"{'ECE':>6} {'before':>6} {'tokens':>6} {'clips':>6} {'words':>6} {'right %':>7}  set"
    )
    for name, found in report.tables.items():
        errors = "".join(
            f"{'-' if found[key] is None else format(found[key], '.3f'):>6} "
            for key in ("ece", "raw_ece", "token_ece", "clip_ece")
        )
        share = 100 * found["right"] / found["words"] if found["words"] else 0.0
        typer.echo(f"{errors}{found['words']:>6} {share:>7.1f}  {name}")
    silence = report.summary["held_out"]["silence"]
    typer.echo(
        f"silence: {silence['silent_words_left']} of {silence['silent_words']} words left in "
        f"{silence['silent_clips']} clips; speech: {silence['suppressed_right_words']} of "
        f"{silence['right_words']} right words suppressed"
    )
    typer.echo(json.dumps(report.summary))
