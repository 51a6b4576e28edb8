#!/usr/bin/env python3
"""Resident memory of one process over many files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer

from auris.cli.options import ModelOptions, TestSets
from auris.cli.table import write_json
from auris.evaluation.loading import resident_gb
from auris.evaluation.sets import read_set
from auris.pipeline import AsrPipeline
from command_line import run_command

__all__ = ["MemoryScore", "measure_files"]


@dataclass(frozen=True)
class MemoryScore:
    """Memory of one process over many files, in GB, after every tenth of them.

    `growth` is the share by which it grew from the first tenth to the end.
    """

    files: int
    resident_gb: tuple[float, ...]
    growth: float


def measure_files(pipeline: AsrPipeline, files: Sequence[Path], count: int) -> MemoryScore:
    """Transcribe `count` files, the given ones again and again, and measure the memory."""
    tenths = {round(count * tenth / 10) for tenth in range(1, 11)}
    levels = []
    names = (str(file) for file in islice(cycle(files), count))
    for done, _ in enumerate(pipeline.results(names), 1):
        if done in tenths:
            levels.append(resident_gb())
    return MemoryScore(count, tuple(levels), levels[-1] / levels[0] - 1.0)


def many_files(
    test_set: TestSets,
    model: ModelOptions,
    files: Annotated[int, typer.Option(min=10, help="How many files to transcribe.")] = 1000,
) -> None:
    """Measure the resident memory of one process over many files: the clips of the sets, again and
    again.

    The last line is JSON.
    """
    pipeline = model.pipeline()
    clips = [file for name in test_set for file in read_set(name)]
    score = measure_files(pipeline, clips, files)
    for tenth, level in enumerate(score.resident_gb, 1):
        typer.echo(f"{level:>8.4f} GB after {round(files * tenth / 10)} files")
    write_json({"model": pipeline.model.name, **vars(score)})


if __name__ == "__main__":
    run_command(many_files)
