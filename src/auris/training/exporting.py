"""Checkpoints of a run as model directories."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from torch import Tensor

from auris.checkpoints.adapters import save_adapter
from auris.checkpoints.atomic import replace_directory
from auris.checkpoints.config_writer import unofficial
from auris.checkpoints.load import open_checkpoint
from auris.checkpoints.save import converted
from auris.config import AutCtcConfig
from auris.errors import TensorError, TrainingError, UsageError
from auris.training.data import TrainedOn
from auris.training.folder import RunFolder
from auris.training.recipes import TuneRecipe
from auris.training.starting import checkpoint_named, checkpoint_weights, run_task, with_checkpoint
from auris.training.tasks import Task

ADAPTER_NAME = re.compile(r"model\.decoder\.(layers\.\d+\.\w+)\.lora_([AB])\.default\.weight")
"""Names of the weights of adapters in a checkpoint."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
"""Types in which models are written."""


def dtype_named(name: str) -> torch.dtype:
    """One of `DTYPES`, or UsageError."""
    if name not in DTYPES:
        raise UsageError(
            f"The type of written weights has to be {', '.join(DTYPES)}",
            f"{name!r} was given",
            "choose one with --dtype",
        )
    return DTYPES[name]


def check_export(task: Task, dtype: torch.dtype) -> None:
    """Raise TrainingError where a weight of the model cannot be written in `dtype`."""
    try:
        for name, weight in task.named_parameters():
            converted(name, weight, dtype)
    except TensorError as error:
        raise TrainingError(
            error.rule, error.actual, "write the model with --dtype bfloat16 or --dtype float32"
        ) from error


def export_run(
    run: Path,
    out: Path,
    which: str | None = None,
    dtype: torch.dtype = torch.float16,
    task: Task | None = None,
) -> Path:
    """Write a checkpoint of a run as a model directory.

    What is at `out` is replaced if it is a model, apart from its card (README.md), and only when
    the new one is complete.

    Args:
        run: the run's folder.
        which: "best", "last", "average", "ema" or "step-N"; by default "ema" or "average" where the
            run has one, else "best".
        task: the model of the run, which gets the weights of the checkpoint and has no adapters
            afterwards; by default a new one, so that two may be in memory.

    Raises:
        TrainingError: the folder holds no such checkpoint, or its weights do not fit into `dtype`.
        UsageError: `out` is a directory that holds no model, or the model that the run began with.
    """
    which = checkpoint_named(run, which)
    folder = RunFolder(run)
    _, model = folder.read()
    if model is not None and out.resolve() == model:
        raise UsageError(
            "A run does not replace the model that it began with",
            f"that is {str(out)!r}",
            "name another directory",
        )
    task = run_task(run, which) if task is None else with_checkpoint(task, run, which)
    try:
        return _write(task, out.resolve(), dtype, folder.trained_on())
    except TensorError as error:
        raise TrainingError(
            error.rule,
            error.actual,
            f"write it with auris train export --run {run} --out {out} --dtype bfloat16 or float32",
        ) from error


def export_adapter(run: Path, out: Path, which: str | None = None) -> Path:
    """Write the adapters of a checkpoint of a run as a directory for `--adapter`.

    Raises:
        TrainingError: the run trains no adapters, or it holds no such checkpoint.
        UsageError: `out` exists and is not empty.
        OutputError: `out` cannot be written.
    """
    which = checkpoint_named(run, which)
    recipe, _ = RunFolder(run).read()
    rank = recipe.lora_rank if isinstance(recipe, TuneRecipe) else 0
    if not isinstance(recipe, TuneRecipe) or not rank:
        raise TrainingError(
            "Only runs with adapters can be written with --adapter",
            f"the recipe of {run} has no lora_rank",
            "leave --adapter out",
        )
    stored = checkpoint_weights(run, which)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, weight in stored.items():
        if match := ADAPTER_NAME.fullmatch(name):
            parts.setdefault(match[1], {})[match[2]] = weight
    weights = {name: (pair["A"], pair["B"]) for name, pair in parts.items()}
    return save_adapter(out.resolve(), weights, rank, recipe.lora_alpha)


def written(model: Path) -> str:
    """What to tell about a model directory that was written."""
    config = open_checkpoint(model).config
    reason = unofficial(config)
    if reason is None or isinstance(config, AutCtcConfig):
        return f"wrote {model}"
    return (
        f"wrote {model} in the native layout, which auris loads; transformers has no such model "
        f"({reason})"
    )


def _write(task: Task, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
    if not (out / "config.json").is_file() or not any(out.glob("model*.safetensors")):
        return task.export(out, dtype, trained_on)
    with replace_directory(out) as fresh:
        task.export(fresh, dtype, trained_on)
        if (out / "README.md").is_file():
            shutil.copy(out / "README.md", fresh)
    return out
