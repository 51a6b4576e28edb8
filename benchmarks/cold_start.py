#!/usr/bin/env python3
"""From a command's start to its first token, and the memory that a whole command takes.

Every figure comes from a process of its own that runs `auris transcribe` as a user would. The time
of `import torch`, which Auris cannot shorten, is measured in the same rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from auris.cli.benchmark import names
from auris.cli.options import (
    Dtypes,
    Models,
    Runs,
    models_or_default,
)
from auris.cli.table import write_json
from auris.diagnostics.parity import noise_clip
from auris.errors import AurisError
from auris.evaluation.speed import wav_bytes
from command_line import run_command

__all__ = ["ColdStart", "Memory", "measure_memory", "measure_starts"]

START_SECONDS = 2.0
"""Length of the clip of a cold start."""

IMPORT = "import torch; print(flush=True); print(0.0, 0.0)"
COMMAND = """
from auris.cli.main import main
try:
    main()
finally:
    from auris.evaluation.loading import peak_gb, resident_gb
    resident = resident_gb()
    print(peak_gb(), resident)
"""


@dataclass(frozen=True)
class ColdStart:
    """Medians over the runs of one dtype.

    Attributes:
        model: its name, and the dtype.
        first_token_seconds: from the start of the process until a text of one token is on its
            standard output; the files were in the page cache. This includes the pass after the
            token, which decides whether the text ends there.
        torch_seconds: from the start of a process until it has imported torch.
        peak_gb: largest resident memory of the process, mapped files included.
    """

    model: str
    first_token_seconds: float
    torch_seconds: float
    peak_gb: float


@dataclass(frozen=True)
class Memory:
    """The resident memory of a process, mapped files included: the peak, and at the end."""

    peak_gb: float
    resident_gb: float


def _timed(arguments: Sequence[str]) -> tuple[float, Memory]:
    """Seconds until a program's first line, and the two numbers on its last.

    Raises:
        AurisError: the program failed.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seconds = time.perf_counter() - began
            rest = process.stdout.read().split()
        if process.returncode != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise AurisError(
                "A model has to load and transcribe to be measured",
                f"the command did not ({(lines or [f'exit code {process.returncode}'])[-1]})",
                "run auris doctor --model on it",
            )
    return seconds, Memory(float(rest[-2]), float(rest[-1]))


def _transcribe(model: str, dtype: str, clip: Path, tokens: int, threads: int) -> list[str]:
    options = ["-m", model, "--dtype", dtype, "--threads", str(threads)]
    return [
        *(sys.executable, "-c", COMMAND, "transcribe", str(clip), *options),
        *("--max-new-tokens", str(tokens)),
    ]


def measure_starts(model: str, dtypes: Sequence[str], runs: int, threads: int) -> list[ColdStart]:
    """Measure cold starts of a model in some dtypes, interleaved, after a round that warms files.

    Args:
        model: directory, name or hub id of a Qwen3-ASR model.
        dtypes: as of `auris transcribe`.
        runs: counted runs of each.
        threads: CPU threads.

    Raises:
        AurisError: a command failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        clip.write_bytes(wav_bytes(noise_clip(START_SECONDS)))
        torch_seconds, starts = [], {dtype: list[tuple[float, Memory]]() for dtype in dtypes}
        for number in range(runs + 1):
            imported, _ = _timed([sys.executable, "-c", IMPORT])
            if number:
                torch_seconds.append(imported)
            for dtype in dtypes:
                measured = _timed(_transcribe(model, dtype, clip, 1, threads))
                if number:
                    starts[dtype].append(measured)
    return [
        ColdStart(
            f"{model} {dtype}",
            statistics.median(seconds for seconds, _ in pairs),
            statistics.median(torch_seconds),
            statistics.median(memory.peak_gb for _, memory in pairs),
        )
        for dtype, pairs in starts.items()
    ]


def measure_memory(model: str, dtype: str, seconds: float, tokens: int, threads: int) -> Memory:
    """Memory of a process that transcribes a clip of some length.

    Other arguments, and errors, as of `measure_starts`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        clip.write_bytes(wav_bytes(noise_clip(seconds)))
        return _timed(_transcribe(model, dtype, clip, tokens, threads))[1]


def cold_start(
    model: Models = None,
    dtype: Dtypes = "auto",
    runs: Runs = 5,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 2,
    seconds: Annotated[
        float, typer.Option(min=1, max=1200, help="Length of the clip for memory.")
    ] = 30.0,
    tokens: Annotated[int, typer.Option(min=1, help="Token budget of the clip for memory.")] = 100,
) -> None:
    """Measure the time from the start of `auris transcribe` to a text of one token, the time of
    `import torch`, and the memory of a whole command.

    The last line is JSON.
    """
    dtypes = names(dtype)
    starts, memory = [], []
    for name in models_or_default(model):
        for start in measure_starts(name, dtypes, runs, threads):
            starts.append(start)
            more = start.first_token_seconds - start.torch_seconds
            typer.echo(
                f"cold start to the first token of {START_SECONDS:g} s: "
                f"{start.first_token_seconds:.2f} s, import torch {more:+.2f} s; "
                f"{start.peak_gb:.2f} GB  {start.model}"
            )
        for one in dtypes:
            used = measure_memory(name, one, seconds, tokens, threads)
            memory.append({"model": name, "dtype": one, **asdict(used)})
            typer.echo(
                f"memory over {seconds:g} s: peak {used.peak_gb:.2f} GB, resident at the end "
                f"{used.resident_gb:.2f} GB  {name} {one}"
            )
    write_json({"runs": runs, "threads": threads, "cold": starts, "memory": memory})


if __name__ == "__main__":
    run_command(cold_start)
