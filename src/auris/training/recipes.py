"""Recipes: everything about a training run that is not its data, as one JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.config import AutConfig, AutCtcConfig, ProjectorConfig
from auris.errors import TrainingError

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A run of CTC training.

    Attributes:
        mel_bins, d_model, n_layers, n_heads, d_ff, conv_channels, projector_dim, dropout: the
            encoder, of the RMSNorm family; the projector is kept for joining it to a decoder.
        units: size of the text vocabulary.
        lr, wd, warmup_steps: AdamW with linear warm-up, then half a cosine down to 0.
        epochs, max_steps: length of the run; exactly one of them.
        batch_seconds: audio in a batch.
        max_grad_norm: gradients are scaled down to this norm.
        seed: of weights, order, dropout and augmentation.
        augment_from_epoch: first epoch (from 1) with speed, room, noise, gain and SpecAugment;
            a model that has not found the alignment yet rarely finds it through noise.
        join_shorter, join_most, join_copies: see `auris.training.sampler.examples`.
        checkpoint_steps: steps between checkpoints; one is also written after every epoch.
        bf16: compute in bfloat16 where torch's autocast does; weights stay float32.
    """

    mel_bins: int = 128
    d_model: int = 192
    n_layers: int = 4
    n_heads: int = 3
    d_ff: int = 768
    conv_channels: int = 64
    projector_dim: int = 256
    dropout: float = 0.1
    units: int = 384
    lr: float = 1e-3
    wd: float = 0.01
    warmup_steps: int = 400
    epochs: int | None = None
    max_steps: int | None = None
    batch_seconds: float = 50.0
    max_grad_norm: float = 1.0
    seed: int = 1
    augment_from_epoch: int = 4
    join_shorter: float = 1.2
    join_most: int = 6
    join_copies: int = 2
    checkpoint_steps: int = 250
    bf16: bool = True

    def __post_init__(self) -> None:
        positive = (
            "units lr batch_seconds max_grad_norm augment_from_epoch checkpoint_steps join_most "
            "projector_dim"
        )
        for name in positive.split():
            self._require(getattr(self, name) > 0, f"{name} has to be positive", name)
        for name in ("wd", "warmup_steps", "join_copies", "join_shorter"):
            self._require(getattr(self, name) >= 0, f"{name} must not be negative", name)
        self._require(self.join_most > 1, "join_most has to be at least 2", "join_most")
        self._require(self.lr < 1e30, "lr has to be below 1e30", "lr")
        self._require(0 <= self.seed < 1 << 63, "seed has to be from 0 to 2**63 - 1", "seed")
        lengths = [length for length in (self.epochs, self.max_steps) if length is not None]
        if len(lengths) != 1 or lengths[0] <= 0:
            raise TrainingError(
                "exactly one of epochs and max_steps has to be given and positive",
                f"they are {self.epochs} and {self.max_steps}",
                "correct the recipe",
            )

    def _require(self, holds: bool, rule: str, name: str) -> None:
        if not holds:
            found = f"it is {getattr(self, name)}"
            raise TrainingError(f"in a recipe {rule}", found, "correct the recipe")

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe of a JSON file.

        Raises:
            TrainingError: it is no JSON object, has unknown keys, or impossible values.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise TrainingError(
                "a recipe has to be a readable JSON file", f"{path}: {error}", "check the path"
            ) from error
        return cls.of(values)

    @classmethod
    def of(cls, values: Any) -> Recipe:
        """The recipe of a JSON object; absent keys have the defaults above.

        Raises:
            TrainingError: unknown keys, wrong types, or impossible values.
        """
        if not isinstance(values, dict):
            raise TrainingError(
                "a recipe has to be a JSON object", f"it is a {type(values).__name__}", "correct it"
            )
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise TrainingError(
                f"a recipe may hold the keys {', '.join(fields)}",
                f"it has {', '.join(unknown)}",
                "remove or rename them",
            )
        for name, value in values.items():
            _require_type(name, str(fields[name].type), value)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, as plain JSON."""
        return dataclasses.asdict(self)

    def model_config(self) -> AutCtcConfig:
        """Shapes of the model."""
        encoder = AutConfig(
            mel_bins=self.mel_bins,
            layers=self.n_layers,
            d_model=self.d_model,
            heads=self.n_heads,
            ffn=self.d_ff,
            conv_channels=self.conv_channels,
            norm="rms",
            dropout=self.dropout,
        )
        return AutCtcConfig(
            encoder=encoder,
            units=self.units,
            projector=ProjectorConfig(self.projector_dim, bias=False),
            frontend="htk1024",
        )

    def learning_rate(self, step: int, steps: int) -> float:
        """Rate of step `step` (from 0) of `steps`."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _require_type(name: str, annotation: str, value: Any) -> None:
    allowed: tuple[type, ...] = (bool,) if annotation == "bool" else (int,)
    if annotation == "float":
        allowed = (int, float)
    wrong_bool = isinstance(value, bool) and annotation != "bool"
    optional = "None" in annotation and value is None
    if not optional and (wrong_bool or not isinstance(value, allowed)):
        raise TrainingError(
            f"in a recipe {name} has to be of type {annotation}",
            f"it is {value!r}",
            "correct the recipe",
        )
