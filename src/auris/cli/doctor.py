"""`auris doctor`: what this machine offers, and whether a checkpoint is sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.diagnostics.doctor import Finding
    from auris.diagnostics.parity import ParityRow


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Check this model: directory, name or id.")
    ] = None,
    reference: Annotated[
        bool,
        typer.Option("--reference", help="Also compare every layer with transformers (float32)."),
    ] = False,
    audio: Annotated[
        str | None, typer.Option(help="Recording to compare on; 12 s of made-up sound by default.")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="How far to follow the text when comparing.")
    ] = 64,
) -> None:
    """Show the environment; with --model check a checkpoint, with --reference prove it.

    The exit code is 1 when a check failed.
    """
    if audio is not None and not reference:
        raise UsageError(
            "--audio is the recording for --reference", "that was not asked", "add --reference"
        )
    if model is None:
        if reference:
            raise UsageError(
                "--reference needs a model to compare", "none was named", "add --model"
            )
        from auris.diagnostics.doctor import environment

        for finding in environment():
            _show(finding)
        return
    from auris.checkpoints.hub import resolve
    from auris.diagnostics.doctor import check_model

    directory = resolve(model).directory
    good = True
    for finding in check_model(directory):
        _show(finding)
        good = good and finding.ok is not False
    if good and reference:
        good = _compare(directory, audio, max_new_tokens)
    if not good:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    mark = {True: "ok    ", False: "FAILED", None: "      "}[finding.ok]
    typer.echo(f"{mark} {finding.what:<16} {finding.found}")


def _compare(directory: Path, audio: str | None, max_new_tokens: int) -> bool:
    from auris.audio.io import load
    from auris.diagnostics.parity import Parity, comparison_clip

    samples = comparison_clip() if audio is None else load(audio).samples
    rows = Parity(directory).compare(samples, max_new_tokens=max_new_tokens)
    header = f"{'stage':<20} {'largest difference':>20} {'allowed':>10} {'cosine':>12}"
    typer.echo(f"\n       {header}")
    for row in rows:
        _show_row(row)
    return all(row.ok for row in rows)


def _show_row(row: ParityRow) -> None:
    mark = "ok    " if row.ok else "FAILED"
    limit = f"{row.limit:>10.3g}" if row.limit else " " * 10
    line = f"{mark} {row.stage:<20} {row.error:>20.3g} {limit} {row.cosine:>12.8f}  {row.note}"
    typer.echo(line.rstrip())
