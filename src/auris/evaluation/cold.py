"""From a command's start to its first token, and the memory that a whole command takes.

Every figure comes from a process of its own that runs `auris transcribe` as a user would; the time
of `import torch`, which nothing here can shorten, is taken beside it in turn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auris.diagnostics.parity import noise_clip
from auris.errors import AurisError
from auris.evaluation.speed import wav_bytes

__all__ = ["Cold", "Memory", "cold_start", "memory_of"]

IMPORT = "import torch; print(flush=True); print(0.0, 0.0)"
COMMAND = """
from auris.cli.main import main
try:
    main()
finally:
    from auris.evaluation.loading import peak_gb, resident_gb
    print(peak_gb(), resident_gb())
"""


@dataclass(frozen=True)
class Cold:
    """Medians over the runs of one dtype.

    Attributes:
        model: its name, with the dtype asked for.
        first_token_seconds: from the start of the process until a text of one token stands on
            its standard output; the files were in the page cache. This includes the pass after
            the token, which tells whether the text ends there.
        torch_seconds: from the start of a process until it has imported torch.
        peak_gb: largest resident memory of the process, mapped files included.
    """

    model: str
    first_token_seconds: float
    torch_seconds: float
    peak_gb: float


@dataclass(frozen=True)
class Memory:
    """Of a process.

    Attributes:
        peak_gb: most that was resident, mapped files included.
        resident_gb: what was in the end.
    """

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
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise AurisError(
                "A model has to load and transcribe to be measured",
                f"the command did not ({(said or [f'exit code {process.returncode}'])[-1]})",
                "run auris doctor --model on it",
            )
    return seconds, Memory(float(rest[-2]), float(rest[-1]))


def _transcribe(model: str, dtype: str, clip: Path, tokens: int, threads: int) -> list[str]:
    options = ["-m", model, "--dtype", dtype, "--threads", str(threads)]
    return [
        *(sys.executable, "-c", COMMAND, "transcribe", str(clip), *options),
        *("--max-new-tokens", str(tokens)),
    ]


def cold_start(
    model: str, dtypes: Sequence[str], runs: int, threads: int, seconds: float = 2.0
) -> list[Cold]:
    """Measure cold starts of a model in some dtypes, interleaved, after a round that warms files.

    Args:
        model: directory, name or hub id of a Qwen3-ASR model.
        dtypes: as for `auris transcribe`.
        runs: counted runs of each.
        threads: of the processor.
        seconds: length of the clip of noise.

    Raises:
        AurisError: a command failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        clip.write_bytes(wav_bytes(noise_clip(seconds)))
        torch_seconds, taken = [], {dtype: list[tuple[float, Memory]]() for dtype in dtypes}
        for turn in range(runs + 1):
            imported, _ = _timed([sys.executable, "-c", IMPORT])
            if turn:
                torch_seconds.append(imported)
            for dtype in dtypes:
                measured = _timed(_transcribe(model, dtype, clip, 1, threads))
                if turn:
                    taken[dtype].append(measured)
    return [
        Cold(
            f"{model} {dtype}",
            statistics.median(first for first, _ in pairs),
            statistics.median(torch_seconds),
            statistics.median(memory.peak_gb for _, memory in pairs),
        )
        for dtype, pairs in taken.items()
    ]


def memory_of(model: str, dtype: str, seconds: float, tokens: int, threads: int) -> Memory:
    """Memory of a process that transcribes a clip of some length.

    Arguments and errors as of `cold_start`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        clip.write_bytes(wav_bytes(noise_clip(seconds)))
        return _timed(_transcribe(model, dtype, clip, tokens, threads))[1]
