"""Checkpoints of a run as model directories."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from auris.checkpoints.atomic import replace_directory
from auris.checkpoints.save import converted
from auris.errors import ConfigError, TensorError, TrainingError, UsageError
from auris.training.data import TrainedOn
from auris.training.folder import RunFolder
from auris.training.starting import build_task
from auris.training.state import AVERAGE, BEST, LAST, load_weights
from auris.training.tasks import Task

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
    """Raise TrainingError where the model or one of its weights cannot be written in `dtype`."""
    try:
        task.check_export()
        for name, weight in task.named_parameters():
            converted(name, weight, dtype)
    except ConfigError as error:
        raise TrainingError(
            "The model that training writes is in the layout of transformers",
            f"this checkpoint does not fit there ({error.actual})",
            "train another checkpoint",
        ) from error
    except TensorError as error:
        raise TrainingError(
            error.rule, error.actual, "write the model with --dtype bfloat16 or --dtype float32"
        ) from error


def export_run(
    run: Path, out: Path, which: str | None = None, dtype: torch.dtype = torch.float16
) -> Path:
    """Write a checkpoint of a run as a model directory.

    What is at `out` is replaced if it is a model, apart from its card (README.md), and only when
    the new one is complete.

    Args:
        run: the run's folder.
        which: "best", "last" or "average"; by default "average" where the run has one, else "best".

    Raises:
        TrainingError: the folder holds no such checkpoint, or its weights do not fit into `dtype`.
        UsageError: `out` is a directory that holds no model, or the model that the run began with.
    """
    which = which or (AVERAGE if (run / AVERAGE).exists() else BEST)
    if which not in (BEST, LAST, AVERAGE):
        raise TrainingError(
            f"A run has the checkpoints {BEST} and {LAST}, and {AVERAGE} with average_over",
            f"{which} was requested",
            "choose one of them",
        )
    folder = RunFolder(run)
    recipe, model = folder.read()
    trained_on = folder.trained_on()
    if model is not None and out.resolve() == model:
        raise UsageError(
            "A run does not replace the model that it began with",
            f"that is {str(out)!r}",
            "name another directory",
        )
    folder.check_model()
    task = build_task(recipe, model, None if model else folder.units())
    load_weights(run / which, task)
    if not all(bool(p.isfinite().all()) for p in task.parameters()):
        raise TrainingError(
            "The weights of a model have to be numbers",
            f"the checkpoint {which} of {run} holds others",
            "export another checkpoint, or train with a lower rate",
        )
    try:
        return _write(task, out.resolve(), dtype, trained_on)
    except TensorError as error:
        raise TrainingError(
            error.rule,
            error.actual,
            f"write it with auris train export --run {run} --out {out} --dtype bfloat16 or float32",
        ) from error


def _write(task: Task, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
    if not (out / "config.json").is_file() or not any(out.glob("model*.safetensors")):
        return task.export(out, dtype, trained_on)
    with replace_directory(out) as fresh:
        task.export(fresh, dtype, trained_on)
        if (out / "README.md").is_file():
            shutil.copy(out / "README.md", fresh)
    return out
