"""The folder of a run: what lies in it, and whether a run may begin or go on there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.errors import OutputError, TrainingError
from auris.text.tokenizer import Tokenizer
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe, TuneRecipe

__all__ = ["RECIPES", "RunFolder"]

RECIPES: dict[str, type[Recipe]] = {"ctc": CtcRecipe, "asr": AsrRecipe, "tune": TuneRecipe}
"""Kinds of runs."""


@dataclass(frozen=True)
class RunFolder:
    """Files of a run: recipe.json and run.json (what is trained), units.json (the text units),
    data.txt (what was loaded and what was not), and the model in the end."""

    path: Path

    @property
    def model(self) -> Path:
        """The model directory that a run ends with."""
        return self.path / "model"

    @property
    def _recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def _about(self) -> Path:
        return self.path / "run.json"

    @property
    def _units(self) -> Path:
        return self.path / "units.json"

    def read(self) -> tuple[Recipe, Path | None]:
        """The recipe, and the checkpoint that is trained further.

        Raises:
            TrainingError: the folder holds no run.
        """
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            kind, model = RECIPES[about["kind"]], about["model"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                "a run's folder has to hold the files of a run",
                f"{self.path}: {error}",
                "check the path",
            ) from error
        return kind.read(self._recipe), Path(model) if model else None

    def check_new(self) -> None:
        """A new run needs a folder without one.

        Raises:
            TrainingError: there is one.
        """
        if self._recipe.exists():
            raise TrainingError(
                "a new run needs a folder of its own",
                f"{self.path} holds a run",
                "resume it or choose another folder",
            )

    def check_same(self, recipe: Recipe, model: Path | None) -> None:
        """A run goes on with its own recipe and checkpoint.

        Raises:
            TrainingError: they are others.
        """
        if self.read() != (recipe, model.resolve() if model else None):
            raise TrainingError(
                "a run is resumed with its own recipe and model",
                f"those of {self.path} differ",
                f"give {self._recipe} as config",
            )

    def check_shapes(self, recipe: Recipe) -> None:
        """Another run may begin with this one's weights if their shapes are the same.

        Raises:
            TrainingError: they are not.
        """
        before, _ = self.read()
        if _shapes(before) != _shapes(recipe):
            raise TrainingError(
                "a run can start from one of the same shapes and units only",
                f"the recipe of {self.path} has others",
                "start from another run, or from nothing",
            )

    def begin(self, recipe: Recipe, model: Path | None) -> None:
        """Make the folder of a new run.

        Raises:
            OutputError: it cannot be written.
        """
        kind = next(name for name, known in RECIPES.items() if isinstance(recipe, known))
        about = {"kind": kind, "model": str(model.resolve()) if model else None}
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._about.write_text(_json(about), encoding="utf-8")
            self._recipe.write_text(_json(recipe.to_dict()), encoding="utf-8")

    def write_report(self, text: str) -> None:
        """Keep what was loaded and what was not; errors as of `begin`."""
        with self._writing():
            (self.path / "data.txt").write_text(text + "\n", encoding="utf-8")

    def write_units(self, tokenizer: Tokenizer) -> None:
        """Keep the text units; errors as of `begin`."""
        with self._writing():
            self._units.write_text(tokenizer.to_json(), encoding="utf-8")

    def copy_units(self, other: RunFolder) -> None:
        """Take another run's units; errors as of `begin`."""
        with self._writing():
            shutil.copy(other._units, self._units)

    def units(self) -> Tokenizer:
        """The text units.

        Raises:
            TrainingError: the run has none.
        """
        try:
            return Tokenizer.from_json(self._units.read_text(encoding="utf-8"))
        except OSError as error:
            raise TrainingError(
                "a run's folder has to hold its text units", str(error), "start the run anew"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                "The folder of a run has to be writable",
                f"writing in {str(self.path)!r} failed ({error})",
                "name another, or make room there",
            ) from error


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _shapes(recipe: Recipe) -> Any:
    """What two runs have to share for one to begin with the other's weights."""
    if isinstance(recipe, CtcRecipe):
        config: Any = recipe.model_config()
    elif isinstance(recipe, AsrRecipe):
        config = recipe.model_config(recipe.vocabulary, 0)
    else:
        return None
    encoder = dataclasses.replace(config.encoder, dropout=0.0)
    return dataclasses.replace(config, encoder=encoder)
