"""The folder of a run: its files, and whether a run may begin or continue there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from auris.checkpoints.atomic import NEW, OLD, new_file
from auris.checkpoints.config_writer import to_json
from auris.checkpoints.configs import from_json
from auris.config import QwenAsrConfig
from auris.errors import ConfigError, OutputError, TrainingError, UsageError
from auris.text.tokenizer import Tokenizer
from auris.training.base_recipe import Recipe
from auris.training.data import TrainedOn
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.recipes import AsrRecipe, CtcRecipe, TuneRecipe
from auris.training.reports import CURVE, LOG, SKIPPED, STEPS, TENSORBOARD
from auris.training.speaker_recipe import SpeakerRecipe
from auris.training.state import AVERAGE, BEST, LAST
from auris.training.step_checkpoints import step_checkpoints

RECIPE, ABOUT, UNITS = "recipe.json", "run.json", "units.json"
"""Files of a run: its recipe, what is trained, and the text units."""

WEIGHT_SUFFIXES = (".safetensors", ".gguf")

LOCK = ".lock"
"""File of a run that is locked as long as its process lives."""

RECIPES: dict[str, type[Recipe]] = {
    "ctc": CtcRecipe,
    "asr": AsrRecipe,
    "tune": TuneRecipe,
    "decoder": DecoderRecipe,
    "speaker": SpeakerRecipe,
}
"""Kinds of runs."""


@dataclass(frozen=True)
class JoinedModel:
    """What a `DecoderRecipe` trains.

    Attributes:
        config: shapes of the model, which the recipe does not have.
        fresh: whether its decoder began with random weights.
        head: whether it has a CTC head.
        encoder, decoder: directories that these parts came from, where they came from other models.
    """

    config: QwenAsrConfig
    fresh: bool
    head: bool
    encoder: Path | None = None
    decoder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object of `ABOUT`."""
        paths = {name: getattr(self, name) for name in ("encoder", "decoder")}
        return {
            "config": to_json(self.config, "native", "float32", {}),
            "fresh": self.fresh,
            "head": self.head,
            **{name: None if path is None else str(path) for name, path in paths.items()},
        }

    @classmethod
    def from_json(cls, content: Any) -> JoinedModel:
        """Of what `to_json` returned; ValueError, TypeError or KeyError for anything else."""
        try:
            _, config = from_json(content["config"])
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if not isinstance(config, QwenAsrConfig):
            raise ValueError(f"the model in {ABOUT} has no decoder")
        paths = [Path(path) if (path := content[name]) else None for name in ("encoder", "decoder")]
        return cls(config, bool(content["fresh"]), bool(content["head"]), *paths)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: the files above, data.txt (the data report), and the exported model."""

    path: Path

    @property
    def model(self) -> Path:
        """The model directory that a run ends with."""
        return self.path / "model"

    @property
    def corpus(self) -> Path:
        """The folder with the plan of a corpus."""
        return self.path / "corpus"

    def read(self) -> tuple[Recipe, Path | None]:
        """The recipe, and the checkpoint that is trained further.

        Raises:
            TrainingError: the folder holds no run.
        """
        about = self._about()
        try:
            recipe = RECIPES[about["kind"]].read(self.path / RECIPE)
        except UsageError as error:
            raise _no_run(error.actual) from error
        return recipe, Path(about["model"]) if about["model"] else None

    def _about(self) -> dict[str, Any]:
        try:
            about: dict[str, Any] = json.loads((self.path / ABOUT).read_text(encoding="utf-8"))
            if about["kind"] not in RECIPES or not isinstance(about["model"], str | None):
                raise ValueError(f"{ABOUT} names no kind of run, or no model")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _no_run(f"{self.path}: {error}") from error
        return about

    def check_new(self) -> None:
        """Raise TrainingError where the folder holds a model, or a run with a checkpoint."""
        if any((self.path / name).exists() for name in (LAST, LAST + OLD)):
            raise TrainingError(
                "A new run needs a folder of its own",
                f"{self.path} holds a run",
                "resume it or choose another folder",
            )
        if self.model.exists() and any(self.model.iterdir()):
            raise TrainingError(
                "A new run needs a folder without a model",
                f"{self.model} holds something",
                "choose another folder",
            )

    def joined(self) -> JoinedModel | None:
        """What a `DecoderRecipe` trains; None for runs of other kinds, TrainingError if damaged."""
        about = self._about()
        if RECIPES[about["kind"]] is not DecoderRecipe:
            return None
        try:
            return JoinedModel.from_json(about["joined"])
        except (ValueError, KeyError, TypeError) as error:
            raise _no_run(f"{self.path / ABOUT}: {error}") from error

    def check_same(
        self, recipe: Recipe, model: Path | None, parts: tuple[Path | None, Path | None]
    ) -> None:
        """Raise TrainingError where the run has another recipe, or another model to train.

        Args:
            parts: directories of encoder and decoder, for a `DecoderRecipe`.
        """
        joined = self.joined()
        same = joined is None or (joined.encoder, joined.decoder) == parts
        begun, begun_model = self.read()
        same &= begun_model == (model.resolve() if model else None)
        if not same or not _goes_on(begun, recipe):
            raise TrainingError(
                "A run is resumed with its own recipe and model",
                f"those of {self.path} differ",
                f"give {self.path / RECIPE} as config; only max_steps or epochs may be larger",
            )
        self.check_model()

    def check_model(self) -> None:
        """Raise TrainingError where the weights that the run began with have changed."""
        _, model = self.read()
        if model is not None and self._about().get("weights") != _digest(model):
            raise TrainingError(
                "A run needs the weights that it began with",
                f"those in {model} are others now",
                "put them back, or begin a new run",
            )

    def trained_on(self) -> TrainedOn:
        """What the run and those before it were trained on; unknown for runs of older versions."""
        about = self._about()
        languages = tuple(about.get("languages", ()))
        return TrainedOn(languages, about.get("contexts"), about.get("lower_case", False))

    def check_writable(self) -> None:
        """Raise OutputError where the folder cannot be made or written."""
        path = self.path.absolute()
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(
                "The folder of a run has to be writable",
                f"{str(nearest)!r} is not a directory that can be written",
                "name another folder",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder inside the block, or raise TrainingError.

        The lock ends with the process, however that ends. A filesystem without locks has none.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        with self._writing(), suppress(NotImplementedError):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise TrainingError(
                    "Only one run at a time can use a folder",
                    f"another one is in progress in {self.path}",
                    "wait until it ends, or choose another folder",
                ) from None
        try:
            yield
        finally:
            lock.release()
            with suppress(OSError):
                if os.listdir(self.path) == [LOCK]:  # The run could not begin.
                    (self.path / LOCK).unlink()
                    self.path.rmdir()

    def begin(
        self,
        recipe: Recipe,
        model: Path | None,
        trained_on: TrainedOn,
        joined: JoinedModel | None = None,
    ) -> None:
        """Make the folder of a new run, or raise OutputError."""
        kind = next(name for name, known in RECIPES.items() if isinstance(recipe, known))
        about: dict[str, Any] = {"kind": kind, "model": None, **asdict(trained_on)}
        if joined is not None:
            about["joined"] = joined.to_json()
        if model is not None:
            about |= {"model": str(model.resolve()), "weights": _digest(model)}
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            # What a run left that never saved a checkpoint.
            for name in (STEPS, LOG, CURVE):
                (self.path / name).unlink(missing_ok=True)
            checkpoints = [name + end for name in (BEST, AVERAGE) for end in ("", NEW, OLD)]
            numbered = [path.name for path in step_checkpoints(self.path)]
            for name in (LAST + NEW, *checkpoints, *numbered, SKIPPED, TENSORBOARD):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name, content in {ABOUT: about, RECIPE: asdict(recipe)}.items():
                (self.path / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe, or raise OutputError."""
        with self._writing(), new_file(self.path / RECIPE) as file:
            file.write((json.dumps(asdict(recipe), indent=2) + "\n").encode())

    def write_report(self, text: str) -> None:
        """Write what was loaded and what was not, or raise OutputError."""
        with self._writing():
            # Names of files may hold bytes that are no text.
            (self.path / "data.txt").write_text(text + "\n", "utf-8", "backslashreplace")

    def write_units(self, tokenizer: Tokenizer) -> None:
        """Write the text units, or raise OutputError."""
        with self._writing():
            (self.path / UNITS).write_text(tokenizer.to_json(), encoding="utf-8")

    def units(self) -> Tokenizer:
        """The text units; TrainingError where the run has none."""
        try:
            return Tokenizer.from_json((self.path / UNITS).read_text(encoding="utf-8"))
        # The tokenizers package raises plain Exception for whatever it cannot parse.
        except Exception as error:
            raise TrainingError(
                "A run's folder has to hold its text units",
                f"{self.path / UNITS}: {error}",
                "put them back, or start the run anew",
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


def _goes_on(begun: Recipe, given: Recipe) -> bool:
    """Whether a recipe is that of a run, perhaps for longer."""
    if replace(begun, epochs=given.epochs, max_steps=given.max_steps) != given:
        return False
    lengths = ((begun.epochs, given.epochs), (begun.max_steps, given.max_steps))
    return all(
        before == after or (before is not None and after is not None and before < after)
        for before, after in lengths
    )


def _no_run(actual: str) -> TrainingError:
    return TrainingError("A run's folder has to hold the files of a run", actual, "check the path")


def _digest(model: Path) -> str:
    """The hash of the weights of a directory, or of a file."""
    digest = hashlib.sha256()
    files = [model] if model.is_file() else sorted(model.iterdir())
    for path in files:
        if path.suffix.lower() not in WEIGHT_SUFFIXES:
            continue
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
