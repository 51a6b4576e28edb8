"""Recipes and manifests of toy size."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from auris.training.data import TrainingClip
from auris.training.loop import Trainer
from auris.training.processes import new_fabric
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe
from auris.training.reports import LineReporter, RunLogger
from auris.training.tasks import Task


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toy models gain nothing from threads, and lose much when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHORT: dict[str, Any] = {
    "mel_bins": 32,
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_ff": 32,
    "conv_channels": 4,
    "warmup_steps": 2,
    "batch_seconds": 3.0,
    "augment_from_epoch": 2,
    "checkpoint_steps": 2,
    "max_steps": 9,
    "bf16": False,
}


@pytest.fixture
def tiny() -> Callable[..., CtcRecipe]:
    """A recipe for a CTC model of a few thousand weights, with changes."""

    def make(**changes: Any) -> CtcRecipe:
        return CtcRecipe.of({**SHORT, "projector_dim": 8, "units": 28, **changes})

    return make


@pytest.fixture
def tiny_asr() -> Callable[..., AsrRecipe]:
    """A recipe for a Qwen3-ASR model of a few thousand weights, with changes."""
    decoder = {
        "vocabulary": 260,
        "mel_bins": 128,
        "hidden": 24,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "kv_heads": 1,
        "head_dim": 8,
        "decoder_ff": 32,
    }

    def make(**changes: Any) -> AsrRecipe:
        return AsrRecipe.of({**SHORT, **decoder, **changes})

    return make


def quiet() -> LineReporter:
    """Nobody watches."""
    return LineReporter(lambda line: None)


def trainer_of(
    recipe: Recipe,
    task: Task,
    clips: Sequence[TrainingClip],
    dev: Mapping[str, Sequence[TrainingClip]],
    out: Path,
) -> Trainer:
    """A trainer in this process."""
    fabric = new_fabric(1, recipe.bf16, "cpu")
    return Trainer(recipe, task, clips, dev, out, RunLogger(out, quiet()), fabric)


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str, Sequence[Sequence[str]]], Path]:
    """Write a CSV."""

    def write(name: str, rows: Sequence[Sequence[str]]) -> Path:
        path = tmp_path / name
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write
