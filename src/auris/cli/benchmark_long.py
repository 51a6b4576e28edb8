"""`auris benchmark vad`, `long` and `memory`: silence, hours and many files, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from auris.cli.options import Device, Dtype, Model, Threads

TestSets = Annotated[
    list[str], typer.Option(help="CSV with the columns wav and text, or a folder. Repeatable.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many clips of each.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command()(vad)
    app.command()(long)
    app.command()(memory)


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
    chunk_seconds: Annotated[float, typer.Option(help="As for transcribe.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of pauses, levels and noise.")] = 1,
    limit: Limit = None,
) -> None:
    """Seconds of speech that --vad leaves out, and of pauses; clips in a row, without a model."""
    from auris.evaluation.pauses import NOISES, score_vad
    from auris.evaluation.wer import read_set

    kinds, levels, sets = noise or list(NOISES), snr or [20.0, 10.0, 5.0, 0.0], []
    for name in test_set:
        typer.echo(f"{'missed %':>9} {'skipped %':>10} {'cuts':>5} {'in speech':>10}  {name}")
        scores = []
        for score in score_vad(list(read_set(name))[:limit], kinds, levels, seed, chunk_seconds):
            typer.echo(
                f"{100 * score.missed:>9.2f} {100 * score.skipped:>10.1f} {score.cuts:>5} "
                f"{score.cuts_in_speech:>10}  "
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
        typer.Option(help="Target length of a piece. Repeatable.", show_default="30"),
    ] = None,
    with_vad: Annotated[
        bool, typer.Option("--vad", help="Each also with voice activity detection.")
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
    from auris.evaluation.lasting import score_long
    from auris.evaluation.wer import read_set
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)
    clips = {file: text for name in test_set for file, text in list(read_set(name).items())[:limit]}
    ways = [
        (s, vad)
        for s in chunk_seconds or [30.0]
        for vad in ([False, True] if with_vad else [False])
    ]
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
