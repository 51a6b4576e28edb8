"""`auris benchmark vad`, `long`, `memory` and `stream`: silence, hours, many files, live speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.options import Device, Dtype, Model, Threads
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.evaluation.streaming import StreamScore

TestSets = Annotated[
    list[str], typer.Option(help="CSV with the columns wav and text, or a folder. Repeatable.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many clips of each.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command()(vad)
    app.command()(long)
    app.command()(memory)
    app.command()(stream)


def vad(
    test_set: TestSets,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable.", show_default="white, pink and brown"),
    ] = None,
    snr: Annotated[
        list[float] | None,
        typer.Option(help="dB of speech over noise. Repeatable.", show_default="20, 10, 5 and 0"),
    ] = None,
    level: Annotated[
        list[float] | None,
        typer.Option(
            min=-120.0,
            max=0.0,
            help="dB of speech beside full scale, as -60. Repeatable.",
            show_default="-26",
        ),
    ] = None,
    chunk_seconds: Annotated[float, typer.Option(help="As for transcribe.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of pauses, levels and noise.")] = 1,
    limit: Limit = None,
) -> None:
    """Seconds of speech that --vad leaves out, and of pauses; clips in a row, without a model."""
    from auris.evaluation.pauses import LEVEL_DB, NOISES, score_vad
    from auris.evaluation.wer import read_set

    noises, snrs, levels = noise or NOISES, snr or [20.0, 10.0, 5.0, 0.0], level or [LEVEL_DB]
    sets = []
    for name in test_set:
        typer.echo(f"{'missed %':>9} {'skipped %':>10} {'cuts':>5} {'in speech':>10}  {name}")
        scores = []
        clips = list(read_set(name))[:limit]
        for score in score_vad(clips, noises, snrs, levels, seed, chunk_seconds):
            typer.echo(
                f"{100 * score.missed:>9.2f} {100 * score.skipped:>10.1f} {score.cuts:>5} "
                f"{score.cuts_in_speech:>10}  "
                + (f"{score.level:g} dB, " if level else "")
                + ("no noise" if score.noise is None else f"{score.noise}, {score.snr:g} dB")
            )
            scores.append(score.to_dict())
        sets.append({"name": name, "scores": scores})
    typer.echo(json.dumps({"sets": sets}))


def long(
    test_set: TestSets,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    hours: Annotated[float, typer.Option(help="Length of the recording.")] = 2.0,
    chunk_seconds: Annotated[
        list[float] | None,
        typer.Option(
            help="Target length of a piece. Repeatable.",
            show_default="as the model hears best, with or without vad",
        ),
    ] = None,
    with_vad: Annotated[
        bool, typer.Option("--vad", help="Each length also with voice activity detection.")
    ] = False,
    normalizer: Annotated[
        str,
        typer.Option(help="As for wer; english joins the digits of neighbouring clips."),
    ] = "spoken",
    keep: Annotated[Path | None, typer.Option(help="Write the recording to this wav file.")] = None,
    limit: Limit = None,
) -> None:
    """Word errors of clips one by one and of all in a row, cut by us; the words beside the cuts,
    and memory on the way."""
    from auris.evaluation.lasting import own_cut, score_long
    from auris.evaluation.wer import read_set
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    clips = {file: text for name in test_set for file, text in list(read_set(name).items())[:limit]}
    own = own_cut(pipeline)
    kinds = [False, True] if with_vad else [False]
    asked = [(length, vad) for length in chunk_seconds or own[:1] for vad in kinds]
    ways = asked if chunk_seconds or with_vad else [own]
    typer.echo(
        f"{'WER %':>7} {'clips %':>8} {'pieces':>7} {'skipped s':>10} {'cuts':>6} {'lost':>5} "
        f"{'doubled':>7} {'broken':>6} {'glued':>5} {'beside %':>8} {'else %':>7} "
        f"{'first GB':>9} {'last GB':>8}  cut"
    )
    scores = []
    for score in score_long(pipeline, clips, hours * 3600, ways, normalizer, keep):
        found = score.beside
        typer.echo(
            f"{100 * score.wer:>7.2f} {100 * score.clips_wer:>8.2f} {score.pieces:>7} "
            f"{score.skipped:>10.1f} {found.cuts:>6} {found.lost:>5} {found.doubled:>7} "
            f"{found.broken:>6} {found.glued:>5} {100 * found.beside:>8.2f} "
            f"{100 * found.elsewhere:>7.2f} {score.resident_gb[0]:>9.3f} "
            f"{score.resident_gb[-1]:>8.3f}  {score.chunk_seconds:g} s{', vad' * score.vad}"
        )
        scores.append(score.to_dict())
    typer.echo(json.dumps({"model": pipeline.model.name, "scores": scores}))


def memory(
    test_set: TestSets,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    files: Annotated[int, typer.Option(min=10, help="How many files to transcribe.")] = 1000,
) -> None:
    """Resident memory of one process over many files: clips of the sets again and again."""
    from auris.evaluation.lasting import measure_files
    from auris.evaluation.wer import read_set
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    clips = [file for name in test_set for file in read_set(name)]
    score = measure_files(pipeline, clips, files)
    for tenth, level in enumerate(score.resident_gb, 1):
        typer.echo(f"{level:>8.4f} GB after {round(files * tenth / 10)} files")
    typer.echo(json.dumps({"model": pipeline.model.name, **score.to_dict()}))


def stream(
    audio: Annotated[
        list[str] | None, typer.Option("--audio", help="Recording. Repeatable.")
    ] = None,
    test_set: Annotated[
        list[str] | None,
        typer.Option(help="Clips whose texts are only compared: a CSV or a folder. Repeatable."),
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    chunk_seconds: Annotated[float, typer.Option(help="As for listen.")] = 3.0,
    step_seconds: Annotated[float, typer.Option(help="As for listen.")] = 0.5,
    feed_seconds: Annotated[
        str, typer.Option(help="What is fed at once, by commas, one after the other and again.")
    ] = "0.1",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token budget of a piece, as for transcribe.")
    ] = None,
    streams: Annotated[
        int, typer.Option(min=1, help="Clips of a test set that are heard at once.")
    ] = 1,
    limit: Limit = None,
) -> None:
    """Recordings as live streams: whether the text is the file's, time of a step early and late,
    memory, and how far stable text trails the voice. The exit code is 1 where a text differs."""
    from auris.evaluation.streaming import compare_clips, feeds, score_stream
    from auris.evaluation.wer import read_set
    from auris.pipeline import AsrPipeline

    sizes = feeds(feed_seconds)
    sets = {name: list(read_set(name))[:limit] for name in test_set or ()}
    if not audio and not sets:
        raise UsageError(
            "There has to be something to hear", "nothing is named", "give --audio or --test-set"
        )
    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    options: dict[str, float] = {"chunk_seconds": chunk_seconds, "step_seconds": step_seconds}
    if max_new_tokens is not None:
        options["max_new_tokens"] = max_new_tokens
    scores = []
    if audio:
        typer.echo(
            f"{'seconds':>8} {'steps':>6} {'text':>10} {'early ms':>9} {'late ms':>8} {'ratio':>6} "
            f"{'early GB':>9} {'late GB':>8} {'lag s':>6} {'busy':>6}  audio"
        )
    for name in audio or ():
        scores.append(score_stream(pipeline, name, sizes, **options))
        typer.echo(_stream_row(scores[-1]))
    clips = {}
    for name, files in sets.items():
        found = clips[name] = compare_clips(pipeline, files, sizes, streams, **options)
        typer.echo(
            f"{found.identical} of {found.clips} clips identical, {found.ties} ties, "
            f"{len(found.different)} different  {name}"
        )
        for file in found.different:
            typer.echo(f"    {file}")
    summary = {
        **options,
        "recordings": [score.to_dict() for score in scores],
        "sets": {name: found.to_dict() for name, found in clips.items()},
    }
    typer.echo(json.dumps(summary))
    differ = any(score.verdict == "different" for score in scores)
    if differ or any(found.different for found in clips.values()):
        raise typer.Exit(1)


def _stream_row(score: StreamScore) -> str:
    lag = "-" if score.lag_seconds is None else format(score.lag_seconds, ".2f")
    return (
        f"{score.seconds:>8.1f} {score.steps:>6} {score.verdict:>10} "
        f"{1000 * score.early_seconds:>9.1f} {1000 * score.late_seconds:>8.1f} "
        f"{score.ratio:>6.2f} {score.early_gb:>9.3f} {score.late_gb:>8.3f} {lag:>6} "
        f"{score.busy:>6.3f}  {score.name}"
    )
