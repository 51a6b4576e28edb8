"""What a new run begins with: the weights and units of another run, or of a model directory.

A run may have more layers than what it begins with. The further ones stand behind the given ones
and begin with outputs of zero, so that before the first step the larger model computes what the
smaller one did.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from auris.checkpoints.atomic import current_directory
from auris.checkpoints.ctc_head import load_ctc_head
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.config import AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.errors import TrainingError
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainedOn
from auris.training.folder import RECIPE, RunFolder
from auris.training.recipes import Recipe, ShapedRecipe
from auris.training.state import LAST, WEIGHTS

OUTPUTS = re.compile(r"(.*layers\.\d+)\.(?:out|down)\.(?:weight|bias)")
"""Names of the weights whose products a layer adds to what it was given."""

LAYER = re.compile(r"layers\.(\d+)\.")


def is_run(source: Path) -> bool:
    """Whether a folder is a run's rather than a model's."""
    return (source / RECIPE).is_file()


def check_start(source: Path, recipe: Recipe) -> None:
    """Refuse a run or model of other shapes than the recipe's or of more layers.

    Raises:
        TrainingError: the shapes differ.
        CheckpointError, ConfigError: the model cannot be read.
    """
    given: Recipe | ModelConfig
    given = RunFolder(source).read()[0] if is_run(source) else open_checkpoint(source).config
    shapes = _shapes(given)
    if shapes is None or not _grows(shapes, _shapes(recipe)):
        raise TrainingError(
            "A run can start from one of the same shapes and units only, or of fewer layers",
            f"{source} has others",
            "start from another run or model, or from nothing",
        )


def _shapes(source: Recipe | ModelConfig) -> dict[str, Any] | None:
    """What weights depend on; None where the recipe has no shapes."""
    if isinstance(source, Recipe) and not isinstance(source, ShapedRecipe):
        return None
    config = source.model_config() if isinstance(source, Recipe) else source
    values = dataclasses.asdict(config)
    values["kind"] = type(config).__name__
    values["encoder"] = {**values["encoder"], "dropout": 0.0}
    # A vocabulary counts its control tokens in a model and does not in a recipe; units are copied.
    values.pop("audio_token_id", None)
    values.pop("units", None)
    if isinstance(config, QwenAsrConfig):
        values["decoder"] = {**values["decoder"], "vocab": 0}
    return values


def _grows(before: Any, after: Any) -> bool:
    """Whether all is the same but for layers, of which there may be more."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            after[key] >= before[key] if key == "layers" else _grows(before[key], after[key])
            for key in before
        )
    return bool(before == after)


def start_units(source: Path) -> Tokenizer:
    """The text units of a run or model directory."""
    if is_run(source):
        return RunFolder(source).units()
    return Tokenizer.from_directory(source)


def start_trained_on(source: Path) -> TrainedOn:
    """What the run or model has seen in training."""
    if is_run(source):
        return RunFolder(source).trained_on()
    defaults = load_inference_defaults(source)
    return TrainedOn(defaults.languages or (), defaults.contexts)


def load_start(source: Path, task: nn.Module) -> None:
    """Read the last weights of a run, or a model's, into the task of a new run.

    Raises:
        TrainingError: they are those of another model.
    """
    stored = _run_weights(source) if is_run(source) else _model_weights(source)
    needed = task.state_dict()
    missing = needed.keys() - stored.keys()
    layers: dict[str, int] = {}
    for name in stored:
        stack, number = _layer(name)
        layers[stack] = max(layers.get(stack, 1), number + 1)
    odd = sorted(stored.keys() - needed.keys())
    odd += sorted(n for n in missing if _layer(n)[1] < layers.get(_layer(n)[0], 1))
    odd += sorted(n for n in stored.keys() & needed.keys() if stored[n].shape != needed[n].shape)
    if odd:
        raise TrainingError(
            "A run can start from weights of its own model only",
            f"{odd[0]} and {len(odd) - 1} more are not in both",
            "start from another run or model",
        )
    task.load_state_dict(stored, strict=False)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if name in missing and OUTPUTS.fullmatch(name):
                weight.zero_()


def _layer(name: str) -> tuple[str, int]:
    """A weight's stack of layers and the number of its layer, or its own name and -1."""
    match = LAYER.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, -1)


def _run_weights(source: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(current_directory(source / LAST) / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            "A run can start from another's last checkpoint",
            f"{source / LAST}: {error}",
            "start from another run or model",
        ) from error


def _model_weights(source: Path) -> dict[str, Tensor]:
    """Weights of a model under the names that its task gives them."""
    checkpoint = open_checkpoint(source)
    cpu = torch.device("cpu")
    model = load_weights(checkpoint, cpu, lambda stored: torch.float32, copy=True)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if not isinstance(checkpoint.config, AutCtcConfig):
        head = load_ctc_head(checkpoint.directory, checkpoint.config, cpu, torch.float32)
        if head is not None:
            weights |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    return weights
