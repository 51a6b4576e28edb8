"""`auris benchmark`: measurements, each ending in one line of JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from auris.cli.options import Device, Threads

app = typer.Typer(name="benchmark", help="Measure; the last line is JSON.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure; the last line is JSON."""


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
