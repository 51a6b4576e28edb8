"""Several processes compute the same as one, started by the command or by torchrun."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from auris.cli.main import main
from auris.errors import TrainingError, UsageError
from auris.training.processes import new_fabric
from auris.training.recipes import AsrRecipe, CtcRecipe
from auris.training.run import _Run
from tests.training.tones import tones, write_wav

TEXTS = ["ab", "ba", "cd", "dc", "abc", "bcd", "dcb"]

TOLERANCE = 1e-4
"""Relative difference of the losses: sums of float32 in another order, over a few steps."""

CHECKED = """
import gc, sys
from torch.nn.parallel import DistributedDataParallel
from auris.cli.main import main
from auris.training import run

leave = run.leave

def checked():
    left = [each for each in gc.get_objects() if type(each) is DistributedDataParallel]
    leave()
    assert not left, "a wrapped model outlives the group of processes"

run.leave = checked
"""
"""The command line; at its end the processes check that nothing else refers to their group."""


def manifest(folder: Path) -> Path:
    rows = ["wav,text"]
    for text in TEXTS:
        write_wav(folder / f"{text}.wav", tones(text))
        rows.append(f"{text}.wav,{text}")
    (folder / "tones_train.csv").write_text("\n".join(rows) + "\n")
    return folder / "tones_train.csv"


def losses(run: Path) -> list[float]:
    with open(run / "steps.csv", newline="", encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def command(kind: str, folder: Path, out: str) -> list[str]:
    data = folder / "tones_train.csv"
    return ["auris", "train", kind, "--config", str(folder / "recipe.json"), "--data", str(data),
            "--dev", str(data), "--out", str(folder / out), "--threads", "1"]  # fmt: skip


def run(call: list[str]) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("starter", ["processes", "torchrun"])
def test_two_processes_have_the_losses_of_one(
    tmp_path: Path,
    tiny: Callable[..., CtcRecipe],
    tiny_asr: Callable[..., AsrRecipe],
    starter: str,
) -> None:
    manifest(tmp_path)
    kind = "ctc" if starter == "processes" else "asr"
    make = tiny if kind == "ctc" else tiny_asr
    late = {} if kind == "ctc" else {"decoder_from_step": 3}
    recipe = make(dropout=0.0, max_steps=8, batch_seconds=2.2, silence_share=0.3, **late)
    (tmp_path / "recipe.json").write_text(json.dumps(asdict(recipe)))
    script = tmp_path / "checked.py"
    script.write_text(CHECKED + "main(sys.argv[1:])\n")
    with pytest.raises(SystemExit) as end:
        main(command(kind, tmp_path, "one")[1:])
    assert not end.value.code
    two = [str(script), *command(kind, tmp_path, "two")[1:]]
    if starter == "torchrun":
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        run([sys.executable, "-m", *torchrun, *two])
    else:
        run([sys.executable, *two, "--processes", "2"])
    one, both = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(both) == 8
    assert both == pytest.approx(one, rel=TOLERANCE)
    assert len(set(one)) == 8
    assert (tmp_path / "two" / "model" / "config.json").is_file()


def test_an_unexpected_error_of_the_first_process_reaches_the_others() -> None:
    shared: list[Exception | None] = []

    def broadcast(error: Exception | None) -> Exception | None:
        shared.append(error)
        return shared[0]

    def fails() -> None:
        raise MemoryError("out of memory")

    processes = [
        SimpleNamespace(fabric=SimpleNamespace(global_rank=rank, world_size=2, broadcast=broadcast))
        for rank in (0, 1)
    ]
    with pytest.raises(MemoryError):
        _Run._together(cast(_Run, processes[0]), fails)
    with pytest.raises(TrainingError, match="MemoryError: out of memory"):
        _Run._together(cast(_Run, processes[1]), fails)


def test_unavailable_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="device that this machine has"):
        new_fabric(1, bf16=False, device="steam")


def test_two_processes_that_read_a_corpus_have_the_losses_of_one(
    tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    """Each process reads shards of its own; resumed by one process, the run goes on with two."""
    manifest(tmp_path)
    settings = {"readers": 2, "batch_parts": 2, "memory_mb": 0.5, "shard_seconds": 1.5}
    recipe = tiny(dropout=0.0, max_steps=8, batch_seconds=2.4, checkpoint_steps=3, eval_steps=4,
                  corpus={})  # fmt: skip
    values = {**asdict(recipe), "corpus": settings, "units": 28}
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    call = [word.replace("--data", "--corpus") for word in command("ctc", tmp_path, "one")]
    with pytest.raises(SystemExit) as end:
        main(call[1:])
    assert not end.value.code
    two = [*call[1:-3], str(tmp_path / "two"), *call[-2:], "--processes", "2", "--workers", "1"]
    run([sys.executable, "-m", "auris", *two])
    one, both = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(both) == 8
    assert both == pytest.approx(one, rel=TOLERANCE)
    assert len(set(one)) == 8
    progress = [json.loads((tmp_path / name / "last" / "progress.json").read_text())
                for name in ("one", "two")]  # fmt: skip
    assert progress[0]["readers"] == progress[1]["readers"]
    assert any(block for block, *_ in progress[0]["readers"])
