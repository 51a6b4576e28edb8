"""Checkpoints of a run: weights, optimizer and progress, in safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from auris.errors import TrainingError

__all__ = ["load_state", "load_weights", "save_state"]

WEIGHTS, OPTIMIZER, PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Any
) -> None:
    """Write a checkpoint folder, replacing an older one only when the new one is whole."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({name: p.contiguous() for name, p in model.state_dict().items()}, fresh / WEIGHTS)
    if optimizer is not None:
        save_file(_moments(model, optimizer), fresh / OPTIMIZER)
    (fresh / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Read the weights of a checkpoint into a model of the same shapes."""
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            "a checkpoint has to hold the weights of this model",
            f"{folder}: {error}",
            "resume with the recipe and the folder of the run",
        ) from error


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Read a checkpoint into model and optimizer; its progress.

    Raises:
        TrainingError: there is no whole checkpoint of this model.
    """
    if not folder.exists() and folder.with_name(folder.name + ".old").exists():
        # The run ended between the two renames of `save_state`.
        folder.with_name(folder.name + ".old").rename(folder)
    load_weights(folder, model)
    try:
        moments = load_file(folder / OPTIMIZER)
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            "a run is resumed from a whole checkpoint", f"{folder}: {error}", "start it anew"
        ) from error
    for key, value in moments.items():
        name, _, part = key.rpartition("/")
        optimizer.state[model.get_parameter(name)][part] = value
    return progress


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{part}": value
        for name, parameter in model.named_parameters()
        for part, value in optimizer.state.get(parameter, {}).items()
    }
