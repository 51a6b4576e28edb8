"""Recipes and manifests of toy size."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from auris.training.recipes import Recipe


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toy models gain nothing from threads, and lose much when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """A recipe for a model of a few thousand weights, with changes."""

    def make(**changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "mel_bins": 32,
            "d_model": 16,
            "n_layers": 1,
            "n_heads": 2,
            "d_ff": 32,
            "conv_channels": 4,
            "projector_dim": 8,
            "units": 28,
            "warmup_steps": 2,
            "batch_seconds": 3.0,
            "augment_from_epoch": 2,
            "checkpoint_steps": 2,
            "max_steps": 9,
            "bf16": False,
        }
        return Recipe.of({**values, **changes})

    return make


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str, Sequence[Sequence[str]]], Path]:
    """Write a CSV."""

    def write(name: str, rows: Sequence[Sequence[str]]) -> Path:
        path = tmp_path / name
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write
