#!/usr/bin/env python3
"""How much faster two workers of a corpus are than one, each with one thread, by leases and by Ray.

Time counts from when all workers have loaded the model and have a shard, to the last result. Runs
with one and with two workers take turns, so that a machine that others use disturbs both.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from wave import open as open_wave

import numpy as np
import typer

from auris.audio.io import load
from auris.cli.declare import option
from auris.cli.table import write_json
from auris.pipeline import AsrPipeline
from auris.recognition.options import CallOptions
from auris.scale.plan import Plan, read_plan
from auris.scale.run import CorpusSettings, merged_lines, transcribe_corpus
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.types import SAMPLE_RATE
from command_line import run_command

__all__ = ["Together", "measure"]

CLIP = Path(__file__).parents[1] / "examples" / "kitchen_fan.flac"


@dataclass
class Together(ShardTranscriber):
    """Transcribes shards from when so many processes have one.

    Attributes:
        folder: where each process leaves a file when it has its first shard.
        workers: number of processes.
    """

    folder: Path = Path()
    workers: int = 1

    def result(self, units: Iterable[Any], isolated: bool = False, last: bool = True) -> bytes:
        """See `ShardTranscriber.result`."""
        ready = self.folder / str(os.getpid())
        if not ready.exists():  # Its time is that of the first shard.
            ready.touch()
        while len(list(self.folder.iterdir())) < self.workers:
            time.sleep(0.01)
        return super().result(units, isolated, last)


def loaded(model: str, folder: Path, workers: int) -> Together:
    """Load the model on one thread."""
    pipeline = AsrPipeline.from_pretrained(model, device="cpu", threads=1)
    options = CallOptions(batch_size=8)
    return Together(pipeline, options=options, folder=folder, workers=workers)


def _lease_worker(
    load_model: Callable[[], Together], out: str, settings: CorpusSettings, start: float
) -> None:
    transcribe_corpus(load_model(), out, settings, start)


def by_leases(
    load_model: Callable[[], Together], out: str, settings: CorpusSettings, workers: int
) -> None:
    """Work on a corpus with processes that take leases."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_lease_worker, args=(load_model, out, settings, n / workers))
        for n in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def by_ray(
    load_model: Callable[[], Together], out: str, settings: CorpusSettings, workers: int
) -> None:
    """Work on a corpus with actors of a Ray that is started for it."""
    import ray

    from auris.scale.ray_cluster import Cluster
    from auris.scale.ray_run import transcribe_on_ray

    transcribe_on_ray(load_model, out, settings, Cluster(least=workers, most=workers))
    ray.shutdown()


ENGINES = {"leases": by_leases, "ray": by_ray}


def write_recordings(folder: Path, count: int, seconds: float) -> Path:
    """Write recordings of the example, each from another place in it; returns their folder."""
    samples = (load(CLIP).samples * 32767).astype("<i2")
    length = round(seconds * SAMPLE_RATE)
    recordings = folder / "recordings"
    recordings.mkdir()
    for number in range(count):
        shifted = np.resize(np.roll(samples, 997 * number), length)
        with open_wave(str(recordings / f"{number:04d}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes(shifted.tobytes())
    return recordings


def measure(
    engine: str, model: str, recordings: Path, folder: Path, seconds: float, rounds: int
) -> dict[str, Any]:
    """Measure one engine with one and two workers.

    Returns:
        seconds of the runs by number of workers, how much faster two are, and whether all runs
        gave the same bytes.
    """
    times: dict[int, list[float]] = {1: [], 2: []}
    merged = set()
    order = [workers for number in range(rounds) for workers in ((1, 2), (2, 1))[number % 2]]
    for number, workers in enumerate(order):
        ready, out = folder / f"{engine}-{number}-ready", folder / f"{engine}-{number}"
        ready.mkdir()
        settings = CorpusSettings(str(recordings), headers=True, shard_seconds=seconds)
        ENGINES[engine](partial(loaded, model, ready, workers), str(out), settings, workers)
        plan = read_plan(Storage(str(out)))
        assert isinstance(plan, Plan)
        merged.add(b"".join(merged_lines(plan)))
        began = max(file.stat().st_mtime for file in ready.iterdir())
        ended = max(file.stat().st_mtime for file in (out / "results").iterdir())
        times[workers].append(ended - began)
    return {
        "one_worker_s": [round(value, 2) for value in times[1]],
        "two_workers_s": [round(value, 2) for value in times[2]],
        "times_faster": round(statistics.mean(times[1]) / statistics.mean(times[2]), 3),
        "same_bytes": len(merged) == 1,
    }


def scaling(
    model: Annotated[str, option("Model.", "--model", "-m")] = "tiny",
    recordings: Annotated[int, option("Recordings, each a shard.", min=2)] = 48,
    seconds: Annotated[float, option("Length of a recording.", min=1)] = 20.0,
    engine: Annotated[Literal["leases", "ray", "both"], option("What divides the work.")] = "both",
    rounds: Annotated[int, option("Runs with each number of workers.", min=1)] = 2,
) -> None:
    """Measure how much faster two workers of one thread are than one.

    The last line is JSON.
    """
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="auris-scaling-") as name:
        folder = Path(name)
        source = write_recordings(folder, recordings, seconds)
        for chosen in ENGINES if engine == "both" else (engine,):
            results[chosen] = measure(chosen, model, source, folder, seconds, rounds)
            typer.echo(f"{chosen:>8} {json.dumps(results[chosen])}")
    write_json(
        {"recordings": recordings, "seconds": seconds, "processors": os.cpu_count()} | results
    )


if __name__ == "__main__":
    run_command(scaling)
