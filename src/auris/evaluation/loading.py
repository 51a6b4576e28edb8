"""How long a model takes until it can transcribe, and how much memory it needs.

Every run is a process of its own, since memory that an earlier run has touched would make the next
one look better. Runs of several models are interleaved, so that a machine whose speed varies slows
all of them alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auris.errors import AurisError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.recognition.load import LoadOptions


MEASURE = (
    "import json, sys; from auris.evaluation.loading import measure_here; "
    "print(json.dumps(measure_here(**json.loads(sys.argv[1]))))"
)
HELP = "from auris.cli.main import main; main(['--help'])"


@dataclass(frozen=True)
class Loading:
    """Medians over the runs of one model.

    Attributes:
        model: its name or directory.
        runs: the number of runs.
        weight_gb: size of the weight files in GB.
        import_seconds: importing torch and auris.
        ready_seconds: from then until the model could transcribe; files were in the page cache.
        ready_gb: resident memory then.
        first_seconds: the first transcript of the test clip.
        used_gb: resident memory after it.
    """

    model: str
    runs: int
    weight_gb: float
    import_seconds: float
    ready_seconds: float
    ready_gb: float
    first_seconds: float
    used_gb: float


def _status_gb(key: str) -> float | None:
    """A size in Linux's status of this process; None on other systems."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024 / 1e9
    return None


def resident_gb() -> float:
    """Resident memory of this process, mapped files included; elsewhere than on Linux the peak."""
    resident = _status_gb("VmRSS")
    return peak_gb() if resident is None else resident


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    peak = _status_gb("VmHWM")
    if peak is not None:  # On Linux the figure below includes the memory of the parent.
        return peak
    import resource  # Not on Windows.

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def measure_here(
    model: str, seconds: float, tokens: int, **options: Unpack[LoadOptions]
) -> dict[str, float]:
    """Load a model in this process, which must be fresh, and transcribe a clip of noise.

    Returns:
        the figures of one run, by the names of `Loading`'s attributes.
    """
    began = time.perf_counter()
    import numpy as np

    from auris.pipeline import AsrPipeline
    from auris.recognition.qwen import QwenRecognizer

    imported = time.perf_counter()
    pipeline = AsrPipeline.from_pretrained(model, **options)
    ready = time.perf_counter()
    ready_gb = resident_gb()
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    first = time.perf_counter()
    budget = tokens if isinstance(pipeline.recognizer, QwenRecognizer) else None
    pipeline.transcribe((samples, 16000), max_new_tokens=budget)
    weights = sum(f.stat().st_size for f in pipeline.model.directory.glob("*.safetensors"))
    return {
        "weight_gb": weights / 1e9,
        "import_seconds": imported - began,
        "ready_seconds": ready - imported,
        "ready_gb": ready_gb,
        "first_seconds": time.perf_counter() - first,
        "used_gb": resident_gb(),
    }


def interleaved(
    models: list[str], runs: int, seconds: float, tokens: int, **options: Unpack[LoadOptions]
) -> Iterator[Loading]:
    """Measure models in turn, one fresh process a run, after a round that warms the files.

    Raises:
        AurisError: a model could not be measured.
    """
    figures: dict[str, list[dict[str, float]]] = {model: [] for model in models}
    for number in range(runs + 1):
        for model in models:
            given = json.dumps({"model": model, "seconds": seconds, "tokens": tokens, **options})
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, given], capture_output=True, text=True
            )
            if done.returncode != 0:
                # A process that the system killed writes nothing.
                lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                raise AurisError(
                    f"The model {model!r} could not be loaded and run ({lines[-1]})",
                    "",
                    "run auris doctor --model on it",
                )
            if number:
                figures[model].append(json.loads(done.stdout.splitlines()[-1]))
    for model, rows in figures.items():
        medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        yield Loading(model, runs, **medians)


def help_seconds(runs: int) -> float:
    """Median time of `auris --help` as a process of its own."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
