"""A whole run: manifests in, checkpoints and a model directory out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from auris.errors import TrainingError
from auris.text.normalize import spoken
from auris.training.data import Clip, load_clips, read_manifest, with_units
from auris.training.loop import BEST, LAST, Trainer, new_model
from auris.training.recipes import Recipe
from auris.training.score import require_jiwer
from auris.training.state import load_weights
from auris.training.units import train_units

__all__ = ["MODEL", "Sources", "export_run", "train_ctc"]

UNITS, RECIPE, REPORT, MODEL = "units.json", "recipe.json", "data.txt", "model"


@dataclass(frozen=True)
class Sources:
    """What a run reads.

    Attributes:
        data: training manifests; one that is given twice is heard twice an epoch.
        dev: development manifests, never trained on.
        texts: further text, a sentence a line, that helps to choose the units.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()


def train_ctc(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    resume: bool = False,
    report: Callable[[str], None] = print,
    workers: int = 0,
    start: Path | None = None,
) -> Trainer:
    """Train an AuT encoder with CTC.

    The folder `out` receives recipe.json, units.json, data.txt (what was loaded and what was
    not), log.csv (a line an epoch), the checkpoints `last` and `best`, and at the end `model`,
    the best checkpoint as a model directory.

    Args:
        start: another run, whose units and last weights this one begins with.

    Raises:
        TrainingError: unusable manifests or recipe, or a folder that already holds another run.
        MissingExtra: development sets are given and jiwer is not installed.
    """
    if sources.dev:
        require_jiwer()
    _check_folder(recipe, out, resume)
    clips, found = load_clips(
        [row for path in sources.data for row in read_manifest(path)], recipe.batch_seconds
    )
    if not clips:
        report(found.describe())
        raise TrainingError(
            "Training needs at least one usable clip",
            "there is none",
            "see the data report above",
        )
    out.mkdir(parents=True, exist_ok=True)
    if not resume:
        (out / UNITS).unlink(missing_ok=True)  # Left by a run that ended before it began.
    if start is not None:
        _same_model(recipe, start)
        shutil.copy(start / UNITS, out / UNITS)
    tokenizer = _units(recipe, clips, sources.texts, out / UNITS)
    clips, found = with_units(clips, tokenizer, found)
    report(found.describe())
    (out / REPORT).write_text(found.describe(names=len(clips)) + "\n", encoding="utf-8")
    dev = {path.stem.removesuffix("_dev"): _dev_set(path, report) for path in sources.dev}
    trainer = Trainer(recipe, clips, dev, tokenizer, out, report, workers)
    (out / RECIPE).write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", encoding="utf-8")
    if resume:
        trainer.resume()
    elif start is not None:
        load_weights(start / LAST, trainer.model)
    trainer.run()
    report(f"wrote {export_run(out, out / MODEL)}")
    return trainer


def _check_folder(recipe: Recipe, out: Path, resume: bool) -> None:
    """A new run needs a folder without one, a resumed run its own recipe."""
    path = out / RECIPE
    if not resume and path.exists():
        raise TrainingError(
            "a new run needs a folder of its own",
            f"{out} holds a run",
            "resume it or choose another folder",
        )
    if resume and Recipe.read(path) != recipe:
        raise TrainingError(
            "a run is resumed with its own recipe", f"{path} differs", "give that file as config"
        )


def _same_model(recipe: Recipe, start: Path) -> None:
    if Recipe.read(start / RECIPE).model_config() != recipe.model_config():
        raise TrainingError(
            "a run can start from one of the same shapes and units only",
            f"the recipe of {start} has others",
            "start from another run, or from nothing",
        )


def _units(recipe: Recipe, clips: Sequence[Clip], texts: Sequence[Path], path: Path) -> Tokenizer:
    """The units in `path`, else new ones learned from the texts and written there."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    corpus = [clip.text for clip in clips]
    for text in texts:
        corpus += _sentences(text)
    tokenizer = train_units(corpus, recipe.units)
    tokenizer.save(str(path))
    return tokenizer


def _sentences(path: Path) -> list[str]:
    """The spoken lines of a text file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            "text for the units has to be a readable UTF-8 file", f"{path}: {error}", "check it"
        ) from error
    return [text for text in map(spoken, lines) if text]


def _dev_set(path: Path, report: Callable[[str], None]) -> list[Clip]:
    clips, found = load_clips(read_manifest(path), longest=float("inf"))
    report(f"{path.stem}: {found.describe()}")
    if not clips:
        raise TrainingError(
            "a development set needs at least one usable clip", f"{path} has none", "leave it out"
        )
    return clips


def export_run(run: Path, out: Path, which: str = BEST, dtype: torch.dtype = torch.float16) -> Path:
    """Write a checkpoint of a run as a model directory, replacing what is at `out`.

    Args:
        run: the run's folder.
        which: "best" or "last".
        dtype: type of the written weights.

    Raises:
        TrainingError: the folder holds no such checkpoint.
        UsageError: `out` is a directory that holds no model.
    """
    from auris.export import export_native

    if which not in (BEST, LAST):
        raise TrainingError(
            f"a run keeps the checkpoints {BEST} and {LAST}",
            f"{which} was asked for",
            "choose one of them",
        )
    model = new_model(Recipe.read(run / RECIPE))
    load_weights(run / which, model)
    tokenizer = Tokenizer.from_file(str(run / UNITS))
    if (out / "config.json").is_file():
        shutil.rmtree(out)
    return export_native(model, model.config, tokenizer.to_str(pretty=True), out, dtype)
