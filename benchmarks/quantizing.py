#!/usr/bin/env python3
"""The time and the memory that quantizing a checkpoint takes."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Annotated

import typer

from auris.checkpoints.quantize import quantize
from auris.cli.options import TargetDirectory
from auris.cli.table import write_json
from auris.evaluation.loading import peak_gb
from command_line import run_command


def largest_gb(directory: Path) -> float:
    """Size of the largest tensor of a checkpoint, by the headers of its files."""
    largest = 0
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        ends = [one["data_offsets"] for name, one in header.items() if name != "__metadata__"]
        largest = max([largest, *(end - begin for begin, end in ends)])
    return largest / 1e9


def quantizing(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Model directory.")],
    out: TargetDirectory,
    dtype: Annotated[str, typer.Option(help="int8 or int4.")] = "int8",
) -> None:
    """Quantize a model directory, and measure the time and the memory that it takes.

    The last line is JSON.
    """
    before, began = peak_gb(), time.perf_counter()
    quantize(source, out, dtype)  # type: ignore[arg-type]
    seconds, peak, largest = time.perf_counter() - began, peak_gb(), largest_gb(source)
    multiple = (peak - before) / largest
    typer.echo(
        f"quantized to {dtype} in {seconds:.0f} s; at most {peak:.2f} GB, {before:.2f} before, "
        f"so {multiple:.2f} times the largest tensor ({largest:.2f} GB) above the base"
    )
    figures = {"seconds": seconds, "peak_gb": peak, "base_gb": before, "largest_gb": largest}
    write_json({"quantizing": str(out), "dtype": dtype, **figures, "multiple": multiple})


if __name__ == "__main__":
    run_command(quantizing)
