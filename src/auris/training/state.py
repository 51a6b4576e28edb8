"""Checkpoints of a run: trained weights, optimizer and progress, in safetensors and JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from auris.checkpoints.atomic import current_directory, replace_directory
from auris.errors import OutputError, TrainingError

LAST, BEST, AVERAGE = "last", "best", "average"
"""Checkpoints of a run; the third is the mean of the newest ones."""

WEIGHTS, OPTIMIZER, PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"

EMA = "ema"
"""The exponential moving average of the weights; its file lies in the last checkpoint."""

EMA_WEIGHTS = "ema.safetensors"

FORMER_NAMES = {"heard": "batches", "whole": "all_parts"}
"""Present names of fields that checkpoints of older versions have under another name."""

LATER_FIELDS = frozenset({"audio_seconds", "scored", "unimproved", "readers"})
"""Fields that checkpoints of older versions lack."""

Count = Annotated[int, Field(ge=0)]


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the values that are finite; not a number where none is."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


@dataclass(config=ConfigDict(strict=True))
class TrainingProgress:
    """Where a run stands.

    Attributes:
        epoch, batch, step: the next epoch and batch of it, and the steps done, all from 0. With
            all batches of an epoch done, what remains of it is scoring.
        batches: batches of the whole run so far.
        losses: losses of the steps since the last scoring.
        skipped: steps of the run whose loss or gradient was not finite.
        best: lowest mean error rate so far (or training loss, without development sets).
        all_parts: whether that was with every part of the model in training.
        data: fingerprint of the clips in their order.
        seconds: time spent since the last scoring.
        audio_seconds: audio of the steps since the last scoring.
        scored: the step after which the development sets were scored last.
        unimproved: scorings since the best one.
        readers: positions of the readers of a corpus.
    """

    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    batches: Count = 0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    best: float | None = None
    all_parts: bool = False
    data: str = ""
    seconds: float = 0.0
    audio_seconds: float = 0.0
    scored: Count = 0
    unimproved: Count = 0
    readers: list[list[int]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean of the epoch's finite losses."""
        return finite_mean(self.losses)

    @classmethod
    def of(cls, values: Any) -> TrainingProgress:
        """From a checkpoint's JSON, or TrainingError."""
        given = values if isinstance(values, dict) else {}
        given = {FORMER_NAMES.get(name, name): value for name, value in given.items()}
        try:
            names = {field.name for field in fields(cls)}
            if names - given.keys() - LATER_FIELDS or given.keys() - names:
                raise ValueError("a field is missing or unknown")
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise TrainingError(
                "progress.json of the checkpoint is damaged", "", "start a new run"
            ) from error

    @property
    def speed(self) -> float:
        """Audio seconds a second since the last scoring."""
        return self.audio_seconds / self.seconds if self.seconds else math.nan

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0

    def next_period(self) -> None:
        """Begin to count anew after a scoring."""
        self.losses, self.seconds, self.audio_seconds = [], 0.0, 0.0
        self.scored = self.step


def _trained(model: nn.Module) -> dict[str, Tensor]:
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: t for name, t in model.state_dict().items() if name not in frozen}


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    progress: Any,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint folder; if that fails the older one is not changed (OutputError).

    Args:
        average: weights of the exponential moving average.
    """
    files = {WEIGHTS: _trained(model)}
    if optimizer is not None:
        files[OPTIMIZER] = {
            f"{name}/{part}": value
            for name, parameter in model.named_parameters()
            for part, value in optimizer.state.get(parameter, {}).items()
        }
    if average is not None:
        files[EMA_WEIGHTS] = dict(average)
    _replace(folder, files, progress)


class MovingAverage:
    """The exponential moving average of the trained weights of a model.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: t.detach().clone() for name, t in _trained(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the present weights, with a weight of 1 - decay."""
        for name, weight in _trained(model).items():
            if weight.is_floating_point():
                self.weights[name].lerp_(weight.detach(), 1.0 - self.decay)
            else:
                self.weights[name].copy_(weight)

    def load(self, folder: Path) -> None:
        """Continue that of a checkpoint, or raise TrainingError."""
        try:
            stored = load_file(current_directory(folder) / EMA_WEIGHTS)
            if stored.keys() != self.weights.keys():
                raise ValueError("it is of another model")
            for name, weight in self.weights.items():
                weight.copy_(stored[name])
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise _damaged(folder, error) from error


def update_average(folder: Path, model: nn.Module, over: int, step: int) -> None:
    """Add a model to a running mean of weights, in which its weight is 1 / `over`.

    The first `over` models have equal weights. A step that is in the mean already, of a run that
    ended before it saved its checkpoint, is not added again. Izmailov et al., "Averaging weights
    leads to wider optima and better generalization" (2018).

    Raises:
        TrainingError: the mean is of another model.
        OutputError: it cannot be written; the older one is not changed.
    """
    mean, count = dict(_trained(model)), 0
    before = current_directory(folder)
    if before.exists():
        try:
            stored = load_file(before / WEIGHTS)
            counted = json.loads((before / PROGRESS).read_text(encoding="utf-8"))
            if counted["step"] >= step:
                return
            count = min(counted["checkpoints"], over - 1)
            for name, weight in mean.items():
                if weight.is_floating_point():
                    mean[name] = stored[name].lerp(weight.detach().cpu(), 1.0 / (count + 1))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise TrainingError(
                "The mean of a run's checkpoints has to be of its own model",
                f"{before}: {_first_line(error)}",
                "remove that folder, then resume the run",
            ) from error
    _replace(folder, {WEIGHTS: mean}, {"checkpoints": count + 1, "step": step})


def _replace(folder: Path, files: Mapping[str, dict[str, Tensor]], progress: Any) -> None:
    try:
        with replace_directory(folder) as fresh:
            for name, tensors in files.items():
                save_file({key: t.contiguous() for key, t in tensors.items()}, fresh / name)
            (fresh / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"Writing the checkpoint {str(folder)!r} failed ({error})"
            + ("; the one before it is kept" if current_directory(folder).exists() else ""),
            "",
            "make room, then resume the run",
        ) from error


def load_weights(folder: Path, model: nn.Module, file: str = WEIGHTS) -> None:
    """Read the trained weights of a checkpoint into a model of the same shapes."""
    folder = current_directory(folder)
    try:
        stored = load_file(folder / file)
        if odd := sorted(stored.keys() ^ _trained(model).keys()):
            raise RuntimeError(f"{len(odd)} weights are not in both, such as {odd[0]}")
        model.load_state_dict(stored, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            "A checkpoint has to hold the weights of this model",
            f"{folder}: {_first_line(error)}",
            "use the recipe and the folder of one run",
        ) from error


def _damaged(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(f"The checkpoint {folder} is damaged ({error})", "", "start a new run")


def check_state(folder: Path, model: nn.Module) -> None:
    """Raise TrainingError where the folder has no complete checkpoint of this model."""
    folder = current_directory(folder)
    shapes = {name: list(tensor.shape) for name, tensor in _trained(model).items()}
    try:
        with safe_open(folder / WEIGHTS, "pt") as stored:
            names = stored.keys()
            stored_shapes = {name: stored.get_slice(name).get_shape() for name in names}
        missing = [name for name in (OPTIMIZER, PROGRESS) if not (folder / name).is_file()]
        if stored_shapes != shapes or missing:
            raise ValueError(f"{missing[0]} is missing" if missing else "weights of another model")
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(folder, error) from error


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingProgress:
    """Read a complete checkpoint into model and optimizer, or raise TrainingError."""
    folder = current_directory(folder)
    load_weights(folder, model)
    try:
        moments = load_file(folder / OPTIMIZER)
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        _check_moments(moments, model)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(folder, error) from error
    for key, value in moments.items():
        name, _, part = key.rpartition("/")
        parameter = model.get_parameter(name)
        optimizer.state[parameter][part] = value.to(parameter.device)
    return TrainingProgress.of(progress)


def _check_moments(moments: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError where a weight has not all of its moments, or one of another shape."""
    shapes = {
        f"{name}/{part}": shape
        for name, p in model.named_parameters()
        if p.requires_grad
        for part, shape in {"step": (), "exp_avg": p.shape, "exp_avg_sq": p.shape}.items()
    }
    for key, value in moments.items():
        if value.shape != shapes.get(key) or value.dtype != torch.float32:
            raise ValueError(f"{key} does not belong to the model")
    if set(Counter(key.rpartition("/")[0] for key in moments).values()) - {3}:
        raise ValueError("a weight has not all of its moments")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
