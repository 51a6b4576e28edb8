"""What the recipes of all runs have in common, and how recipes are read."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from auris.errors import TrainingError, UsageError

LARGEST = 10**9
"""Largest number in a recipe except for its seed, so that a wrong number is refused at once."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Steps = Annotated[int, Field(ge=0, le=LARGEST)]
Size = Annotated[int, Field(gt=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]

AnyRecipe = TypeVar("AnyRecipe", bound="Recipe")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """How long, how fast and in which batches any model is trained.

    docs/training.md describes the keys of every kind of recipe.
    """

    lr: Positive = 1e-3
    wd: NotNegative = 0.01
    warmup_steps: Steps = 400
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    decay_steps: Steps | None = None
    epochs: Annotated[int, Field(le=10_000)] | None = None
    max_steps: Annotated[int, Field(le=LARGEST)] | None = None
    batch_seconds: Positive = 50.0
    gradient_accumulation_steps: Size = 1
    max_grad_norm: Positive = 1.0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    checkpoint_steps: Size = 250
    keep_checkpoints: Steps = 0
    eval_steps: Size | None = None
    patience: Steps = 0
    average_over: Steps = 0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bf16: bool = True

    def __post_init__(self) -> None:
        lengths = [length for length in (self.epochs, self.max_steps) if length is not None]
        if len(lengths) > 1 or any(length <= 0 for length in lengths):
            raise TrainingError(
                "In a recipe epochs or max_steps has to be positive, and the other absent",
                f"they are {self.epochs} and {self.max_steps}",
                "correct the recipe",
            )
        once = not (self.average_over and self.ema_decay)
        self._require(once, "ema_decay", "has to be 0 with average_over")

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise wrong_value(name, rule, str(getattr(self, name)))

    @classmethod
    def read(cls: type[AnyRecipe], path: Path) -> AnyRecipe:
        """The recipe of a JSON file, or of that name among those in the package.

        Raises:
            UsageError: there is no such file, or it cannot be opened.
            TrainingError: it is no JSON object, has unknown keys, or impossible values.
        """
        path = packaged_recipe(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(
                "A recipe has to be a readable JSON file",
                f"{str(path)!r} cannot be read ({error.strerror})",
                "check the path",
            ) from error
        except (ValueError, RecursionError) as error:
            raise TrainingError(
                "A recipe has to be a readable JSON file", f"{path}: {error}", "check the path"
            ) from error
        return cls.of(values)

    @classmethod
    def of(cls: type[AnyRecipe], values: Any) -> AnyRecipe:
        """The recipe of a JSON object; absent keys have the defaults above.

        Raises:
            TrainingError: unknown keys, wrong types, or impossible values.
        """
        if not isinstance(values, dict):
            raise TrainingError(
                "A recipe has to be a JSON object", f"it is a {type(values).__name__}", "correct it"
            )
        present = cls._with_present_keys(values)
        names = [field.name for field in fields(cls)]
        unknown = sorted(present.keys() - set(names))
        if unknown:
            raise TrainingError(
                f"A recipe may hold the keys {', '.join(names)}",
                f"it has {', '.join(unknown)}",
                "remove or rename them",
            )
        try:
            return cls(**present)
        except ValidationError as error:
            first = error.errors()[0]
            rule = first["msg"].replace("Input should", "has to")
            raise wrong_value(str(first["loc"][0]), rule, repr(first["input"])) from error

    @classmethod
    def _with_present_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values under the keys that recipes have now."""
        return values

    def learning_rate(self, step: int, steps: int) -> float:
        """Rate of step `step` (from 0) of `steps`."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        after = steps - self.warmup_steps
        decay = after if self.decay_steps is None else min(self.decay_steps, after)
        progress = min(1.0, max(0.0, (step - (steps - decay)) / max(1, decay)))
        if self.schedule == "linear":
            return self.lr * (1.0 - progress)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * progress))


def wrong_value(name: str, rule: str, value: str) -> TrainingError:
    """The error about a key with an impossible value."""
    return TrainingError(f"In a recipe {name} {rule}", f"it is {value}", "correct the recipe")


def packaged_recipe(path: Path) -> Path:
    """The path, or if no such file exists, the recipe of this name in the installed package."""
    packaged = Path(str(resources.files("auris"))) / "recipes" / path.name
    named = path.parent.name in ("", "recipes")
    return packaged if named and not path.exists() and packaged.exists() else path
