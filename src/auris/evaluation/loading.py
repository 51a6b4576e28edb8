"""How long a model takes to be ready, and how much memory it holds.

Every figure comes from a process of its own, since memory that one run has touched would flatter
the next. Runs of several models are interleaved, so that a machine whose speed wanders slows all
of them alike.
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
from typing import Any

from auris.errors import AurisError

__all__ = ["Loading", "help_seconds", "interleaved", "measure_here", "peak_gb", "resident_gb"]


@dataclass(frozen=True)
class Loading:
    """Medians over the runs of one model.

    Attributes:
        model: its name or directory.
        runs: how many runs.
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
    """A size that Linux tells of this process; None elsewhere."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024 / 1e9
    return None


def resident_gb() -> float:
    """Resident memory of this process, mapped files included."""
    resident = _status_gb("VmRSS")
    # Elsewhere the peak stands in for the present: never too small.
    return peak_gb() if resident is None else resident


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    peak = _status_gb("VmHWM")
    if peak is not None:  # Linux counts what the parent held into the other figure.
        return peak
    import resource  # Not on Windows.

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def measure_here(model: str, seconds: float, tokens: int, **load: Any) -> dict[str, float]:
    """Load a model in this process, which must be fresh, and transcribe a clip of noise.

    Args:
        model: directory, name or hub id.
        seconds: length of the clip.
        tokens: token budget, where the model has a decoder.
        load: for `AsrPipeline.from_pretrained`.

    Returns:
        the figures of one run, by the names of `Loading`'s attributes.
    """
    began = time.perf_counter()
    import numpy as np

    from auris.pipeline import AsrPipeline
    from auris.recognition.qwen import QwenRecognizer

    imported = time.perf_counter()
    pipeline = AsrPipeline.from_pretrained(model, **load)
    ready = time.perf_counter()
    ready_gb = resident_gb()
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    clip_at = time.perf_counter()
    budget = tokens if isinstance(pipeline.recognizer, QwenRecognizer) else None
    pipeline.transcribe((samples, 16000), max_new_tokens=budget)
    weights = sum(f.stat().st_size for f in pipeline.model.directory.glob("*.safetensors"))
    return {
        "weight_gb": weights / 1e9,
        "import_seconds": imported - began,
        "ready_seconds": ready - imported,
        "ready_gb": ready_gb,
        "first_seconds": time.perf_counter() - clip_at,
        "used_gb": resident_gb(),
    }


def _fresh(model: str, seconds: float, tokens: int, load: dict[str, Any]) -> dict[str, float]:
    code = (
        "import json, sys; from auris.evaluation.loading import measure_here; "
        "given = json.loads(sys.argv[1]); print(json.dumps(measure_here(**given)))"
    )
    given = json.dumps({"model": model, "seconds": seconds, "tokens": tokens, **load})
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True)
    if done.returncode != 0:
        # A process that the system killed says nothing.
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise AurisError(
            "A model has to load and transcribe to be measured",
            f"{model!r} did not ({said[-1]})",
            "run auris doctor --model on it",
        )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def interleaved(
    models: list[str], runs: int, seconds: float, tokens: int, **load: Any
) -> Iterator[Loading]:
    """Measure models in turn, one fresh process a run, after a round that warms the files.

    Yields:
        each model's medians.
    """
    rows: dict[str, list[dict[str, float]]] = {model: [] for model in models}
    for turn in range(runs + 1):
        for model in models:
            measured = _fresh(model, seconds, tokens, load)
            if turn:
                rows[model].append(measured)
    for model, measured_runs in rows.items():
        medians = {
            key: statistics.median(run[key] for run in measured_runs) for key in measured_runs[0]
        }
        yield Loading(model, runs, **medians)


def help_seconds(runs: int) -> float:
    """Median time of `auris --help` as a whole process."""
    command = [sys.executable, "-c", "from auris.cli.main import main; main(['--help'])"]
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
