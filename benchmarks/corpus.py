#!/usr/bin/env python3
"""Costs of `auris batch --input` in addition to those of the model: planning, time a row, memory.

A manifest of clips of 0.1 s of silence is made; voice activity detection skips them, so the model
has nothing to do. The same recordings are transcribed without shards, in turns, and the difference
of the processor times is what shards cost.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from wave import open as open_wave

import typer

from auris.cli.declare import option
from auris.cli.options import ModelOptions
from auris.cli.table import write_json
from auris.evaluation.loading import resident_gb
from auris.pipeline import AsrPipeline
from auris.recognition.options import CallOptions
from auris.scale.plan import write_plan
from auris.scale.run import CorpusSettings, transcribe_corpus
from auris.scale.sources import units
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.types import SAMPLE_RATE
from command_line import run_command

__all__ = ["CorpusScore", "measure_corpus"]

CLIP_SECONDS = 0.1
FILES = 1000
"""Different files; rows of the manifest are spans of them."""

OPTIONS = CallOptions(vad=True, vad_model="energy", batch_size=8)


@dataclass(frozen=True)
class CorpusScore:
    """What a corpus costs.

    Attributes:
        rows: recordings in it.
        planning_seconds: wall time of planning.
        planning_gb: growth of the largest memory while planning.
        direct_ms: processor time of a recording without shards.
        sharded_ms: with shards.
        growth_gb: growth of the largest memory while working on shards.
        resident_gb: memory at the end.
    """

    rows: int
    planning_seconds: float
    planning_gb: float
    direct_ms: float
    sharded_ms: float
    growth_gb: float
    resident_gb: float

    @property
    def overhead_ms(self) -> float:
        """What shards cost a recording."""
        return self.sharded_ms - self.direct_ms


def write_manifest(folder: Path, rows: int) -> Path:
    """Write silent files and a NeMo manifest of so many of them."""
    for number in range(min(rows, FILES)):
        with open_wave(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes(bytes(2 * round(CLIP_SECONDS * SAMPLE_RATE)))
    manifest = folder / "manifest.jsonl"
    with open(manifest, "w", encoding="utf-8") as lines:
        for number in range(rows):
            row = {"audio_filepath": f"{number % FILES}.wav", "duration": CLIP_SECONDS}
            lines.write(json.dumps(row) + "\n")
    return manifest


def measure_corpus(pipeline: AsrPipeline, rows: int, worked_rows: int) -> CorpusScore:
    """Measure the planning of a manifest, and the work on a part of it."""
    with tempfile.TemporaryDirectory(prefix="auris-corpus-") as name:
        folder = Path(name)
        manifest = write_manifest(folder, rows)
        before, began = _largest_gb(), time.perf_counter()
        storage = Storage(str(folder / "planned"))
        write_plan(storage, {}, units(str(manifest)), 600.0)
        planning, planning_gb = time.perf_counter() - began, _largest_gb() - before
        (folder / "part.jsonl").write_text("".join(_head(manifest, worked_rows)))
        paths = [str(folder / f"{number % FILES}.wav") for number in range(worked_rows)]

        def direct() -> None:
            for _ in pipeline.results(paths, **OPTIONS):
                pass

        runs = iter(range(2))

        def sharded() -> None:
            transcriber = ShardTranscriber(pipeline, options=OPTIONS)
            settings = CorpusSettings(str(folder / "part.jsonl"), shard_seconds=600.0)
            transcribe_corpus(transcriber, str(folder / f"run{next(runs)}"), settings)

        direct()  # Warms up.
        before = _largest_gb()
        times = [_processor_seconds(work) for work in (direct, sharded, sharded, direct)]
        growth = _largest_gb() - before
    direct_ms, sharded_ms = times[0] + times[3], times[1] + times[2]
    scale = 1000 / (2 * worked_rows)
    return CorpusScore(
        rows,
        planning,
        planning_gb,
        scale * direct_ms,
        scale * sharded_ms,
        growth,
        resident_gb(),
    )


def _head(path: Path, count: int) -> list[str]:
    with open(path, encoding="utf-8") as lines:
        return [line for line, _ in zip(lines, range(count), strict=False)]


def _processor_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _largest_gb() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def corpus(
    model: ModelOptions,
    rows: Annotated[int, option("Rows of the manifest that is planned.", min=1)] = 100_000,
    worked_rows: Annotated[int, option("Rows of it that are worked on.", min=1)] = 10_000,
) -> None:
    """Measure what planning and shards cost in addition to the model.

    The last line is JSON.
    """
    score = measure_corpus(model.pipeline(), rows, min(rows, worked_rows))
    typer.echo(f"{score.planning_seconds:>8.2f} s to plan {rows} rows")
    typer.echo(f"{score.direct_ms:>8.3f} ms a row without shards")
    typer.echo(f"{score.overhead_ms:>8.3f} ms a row for shards")
    typer.echo(
        f"{score.resident_gb:>8.3f} GB at the end, {score.growth_gb:.3f} GB more than before"
    )
    write_json({**vars(score), "overhead_ms": score.overhead_ms})


if __name__ == "__main__":
    run_command(corpus)
