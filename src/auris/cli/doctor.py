"""`auris doctor`: what this machine offers, and whether a checkpoint is intact."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.declare import option
from auris.cli.options import Revision
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.diagnostics.doctor import Finding

MARKS = {True: "ok    ", False: "FAILED", None: "      "}


def doctor(
    model: Annotated[
        str | None,
        option(
            "Check this model: directory, bundled model or hub id.", "--model", "-m", default=False
        ),
    ] = None,
    revision: Revision = None,
    reference: Annotated[
        bool, option("Also compare every layer with transformers, in float32.", "--reference")
    ] = False,
    audio: Annotated[
        str | None, option("Recording to compare on.", default="12 seconds of synthetic sound")
    ] = None,
    max_new_tokens: Annotated[int, option("Tokens of the text to compare.", min=1)] = 64,
) -> None:
    """Show versions, devices and dtypes; with --model check a model.

    The exit code is 1 when a check failed.
    """
    if audio is not None and not reference:
        raise UsageError("--audio needs --reference", "that option is not given", "add --reference")
    if model is None and (reference or revision):
        raise UsageError("--reference and --revision need --model", "it is not given", "add it")
    from auris.diagnostics.doctor import check_model, environment

    if model is None:
        _show(environment())
        return
    from auris.checkpoints.hub import resolve

    directory = resolve(model, revision=revision).directory
    passed = _show(check_model(directory))
    if not passed or (reference and not _compare(directory, audio, max_new_tokens)):
        raise typer.Exit(1)


def _show(findings: Iterable[Finding]) -> bool:
    """Write findings as they come; returns whether none of them failed."""
    passed = True
    for finding in findings:
        typer.echo(f"{MARKS[finding.ok]} {finding.what:<20} {finding.text}")
        passed = passed and finding.ok is not False
    return passed


def _compare(directory: Path, audio: str | None, max_new_tokens: int) -> bool:
    from auris.audio.io import load
    from auris.diagnostics.parity import Parity, comparison_clip

    samples = comparison_clip() if audio is None else load(audio).samples
    rows = Parity(directory).compare(samples, max_new_tokens=max_new_tokens)
    header = f"{'stage':<20} {'largest difference':>20} {'allowed':>10} {'cosine':>12}"
    typer.echo(f"\n       {header}")
    for row in rows:
        limit = f"{row.limit:>10.3g}" if row.limit else " " * 10
        numbers = f"{row.stage:<20} {row.error:>20.3g} {limit} {row.cosine:>12.8f}"
        typer.echo(f"{MARKS[row.ok]} {numbers}  {row.note}".rstrip())
    return all(row.ok for row in rows)
