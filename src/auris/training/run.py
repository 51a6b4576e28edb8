"""A whole run: manifests in, checkpoints and a model directory out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from auris.errors import TrainingError, UsageError
from auris.models.aut_ctc import AutCtc
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, fresh_objective
from auris.training.data import Clip, DataReport, load_clips, read_manifest, with_units
from auris.training.loop import BEST, LAST, Trainer
from auris.training.processes import new_fabric
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe, TuneRecipe
from auris.training.reports import EPOCH_COLUMNS, Journal, Lines, Teller
from auris.training.score import require_jiwer
from auris.training.state import load_weights
from auris.training.tasks import CtcTask, Task
from auris.training.tuning import checkpoint_task
from auris.training.units import train_units, train_vocabulary

__all__ = ["MODEL", "RECIPES", "Setting", "Sources", "export_run", "train"]

VAL = "val"
"""Name of the development set that is split off the training clips."""

UNITS, RECIPE, RUN, REPORT, MODEL = "units.json", "recipe.json", "run.json", "data.txt", "model"

RECIPES: dict[str, type[Recipe]] = {"ctc": CtcRecipe, "asr": AsrRecipe, "tune": TuneRecipe}
"""Kinds of runs."""


@dataclass(frozen=True)
class Sources:
    """What a run reads.

    Attributes:
        data: training manifests; one that is given twice is heard twice an epoch.
        dev: development manifests, never trained on.
        texts: further text, a sentence a line, that helps to choose the units.
        model: the checkpoint that a `TuneRecipe` trains further.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    model: Path | None = None


@dataclass(frozen=True)
class Setting:
    """How a run is carried out, which does not change what it computes.

    Attributes:
        resume: continue the run in its folder from its last checkpoint.
        start: another run, whose units and last weights this one begins with.
        workers: processes of each training process that prepare batches ahead.
        processes: training processes on this machine; under torchrun, those that it started.
        device: accelerator, see `auris.training.processes.new_fabric`.
        threads: processor threads of each process; by default torch decides.
    """

    resume: bool = False
    start: Path | None = None
    workers: int = 0
    processes: int = 1
    device: str = "cpu"
    threads: int | None = None


def train(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    setting: Setting | None = None,
    teller: Teller | None = None,
) -> Trainer:
    """Train a model of the recipe's kind.

    The folder `out` receives recipe.json, units.json, data.txt (what was loaded and what was
    not), log.csv (a line an epoch), steps.csv (a line a step), curve.png, TensorBoard's events,
    the checkpoints `last` and `best`, and at the end `model`, the best checkpoint as a model
    directory.

    Raises:
        TrainingError: unusable manifests or recipe, or a folder that already holds another run.
        MissingExtra: development sets are given and jiwer is not installed.
        UsageError: there are not so many devices.
        OutputError: the folder cannot be written.
    """
    setting = setting or Setting()
    _check_sources(recipe, sources, setting)
    # CTC training never uses the projector; another run its decoder, perhaps, not at first.
    idle = isinstance(recipe, CtcRecipe) or getattr(recipe, "decoder_from_step", 0) > 0
    fabric = new_fabric(setting.processes, recipe.bf16, setting.device, idle)
    if setting.threads is not None:  # After Fabric, which chooses a number itself.
        torch.set_num_threads(setting.threads)
    leads = fabric.global_rank == 0
    teller = (teller or Lines()) if leads else Lines(lambda line: None)
    if leads:
        _check_folder(recipe, sources, out, setting)
    fabric.barrier()
    clips, found = _load(recipe, sources.data)
    if not clips:
        teller.say(found.describe())
        raise TrainingError(
            "Training needs at least one usable clip",
            "there is none",
            "see the data report above",
        )
    if leads:
        _prepare_folder(recipe, sources, out, setting, clips)
    fabric.barrier()
    task = _task(recipe, sources.model, out)
    clips, found = with_units(clips, task.hearing.spell, found, task.hearing.aligned)
    clips, held = _split(clips, recipe)
    teller.say(found.describe())
    dev = {_set_name(path): _dev_set(path, recipe, teller) for path in sources.dev}
    if held:
        dev[VAL] = held
    trainer = Trainer(recipe, task, clips, dev, out, Journal(out, teller), fabric, setting.workers)
    if leads:
        report = found.describe(names=None) + "\n"
        (out / REPORT).write_text(report, encoding="utf-8")
        (out / RECIPE).write_text(_json(recipe.to_dict()), encoding="utf-8")
    if setting.resume:
        trainer.resume()
    elif setting.start is not None:
        load_weights(setting.start / LAST, trainer.model)
    trainer.run()
    if leads:
        teller.say(f"wrote {export_run(out, out / MODEL)}")
    return trainer


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _kind(recipe: Recipe) -> str:
    return next(kind for kind, known in RECIPES.items() if isinstance(recipe, known))


def _load(recipe: Recipe, manifests: Sequence[Path]) -> tuple[list[Clip], DataReport]:
    rows = [row for path in manifests for row in read_manifest(path)]
    form = recipe.text if isinstance(recipe, TuneRecipe) else "spoken"
    return load_clips(rows, recipe.batch_seconds, form, recipe.longest_seconds)


def _split(clips: Sequence[Clip], recipe: Recipe) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and clips to score: a recording's name and the seed decide, so that one
    which is listed twice is on one side."""
    kept: list[Clip] = []
    held: dict[str, Clip] = {}
    for clip in clips:
        digest = hashlib.sha256(f"{recipe.seed} {clip.name}".encode()).digest()
        if int.from_bytes(digest[:4], "big") < recipe.val_split * 2**32:
            held[clip.name] = clip
        else:
            kept.append(clip)
    return kept, list(held.values())


def _check_sources(recipe: Recipe, sources: Sources, setting: Setting) -> None:
    """What can be told before anything is loaded."""
    if sources.dev or recipe.val_split:
        require_jiwer()
    names = [_set_name(path) for path in sources.dev]
    taken = [n for n in names if names.count(n) > 1 or n in (*EPOCH_COLUMNS, VAL)]
    if taken:
        raise TrainingError(
            f"development sets need names of their own, not {VAL} or {', '.join(EPOCH_COLUMNS)}",
            f"{taken[0]} is given twice or is one of these",
            "rename the file",
        )
    ignored = {
        "further text for the units of a checkpoint": sources.texts
        and isinstance(recipe, TuneRecipe),
        "another run to start from while one is resumed": setting.resume and setting.start,
    }
    for what, given in ignored.items():
        if given:
            raise UsageError(
                "Every option has to have an effect", f"there is none for {what}", "leave it out"
            )


def _set_name(path: Path) -> str:
    return path.stem.removesuffix("_dev")


def _check_folder(recipe: Recipe, sources: Sources, out: Path, setting: Setting) -> None:
    """A new run needs a folder without one, a resumed run its own recipe and checkpoint."""
    path = out / RECIPE
    if not setting.resume and path.exists():
        raise TrainingError(
            "a new run needs a folder of its own",
            f"{out} holds a run",
            "resume it or choose another folder",
        )
    model = sources.model.resolve() if sources.model else None
    if setting.resume and _read_run(out) != (recipe, model):
        raise TrainingError(
            "a run is resumed with its own recipe and model",
            f"those of {out} differ",
            f"give {path} as config",
        )
    if setting.start is not None:
        before, _ = _read_run(setting.start)
        if _shapes(before) != _shapes(recipe):
            raise TrainingError(
                "a run can start from one of the same shapes and units only",
                f"the recipe of {setting.start} has others",
                "start from another run, or from nothing",
            )


def _shapes(recipe: Recipe) -> Any:
    if isinstance(recipe, CtcRecipe):
        return recipe.model_config()
    return recipe.model_config(recipe.vocabulary, 0) if isinstance(recipe, AsrRecipe) else None


def _read_run(run: Path) -> tuple[Recipe, Path | None]:
    """The recipe of a run's folder, and the checkpoint it trains further.

    Raises:
        TrainingError: the folder holds no run.
    """
    try:
        about = json.loads((run / RUN).read_text(encoding="utf-8"))
        kind, model = RECIPES[about["kind"]], about["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            "a run's folder has to hold the files of a run", f"{run}: {error}", "check the path"
        ) from error
    return kind.read(run / RECIPE), Path(model) if model else None


def _prepare_folder(
    recipe: Recipe, sources: Sources, out: Path, setting: Setting, clips: Sequence[Clip]
) -> None:
    """The folder of a run, and the units it begins with."""
    out.mkdir(parents=True, exist_ok=True)
    model = str(sources.model.resolve()) if sources.model else None
    (out / RUN).write_text(_json({"kind": _kind(recipe), "model": model}), encoding="utf-8")
    units = out / UNITS
    if setting.resume or isinstance(recipe, TuneRecipe):
        return
    if setting.start is not None:
        shutil.copy(setting.start / UNITS, units)
        return
    corpus = [clip.text for clip in clips] + [t for path in sources.texts for t in _sentences(path)]
    learned = (
        train_vocabulary(corpus, recipe.vocabulary)
        if isinstance(recipe, AsrRecipe)
        else train_units(corpus, recipe.units if isinstance(recipe, CtcRecipe) else 0)
    )
    units.write_text(learned.to_json(), encoding="utf-8")


def _task(recipe: Recipe, model: Path | None, run: Path) -> Task:
    """The model of a run as it begins; the seed alone decides fresh weights.

    Raises:
        TrainingError: a checkpoint is missing, or given where none is trained further.
    """
    frames = recipe.max_mel_length if recipe.use_compile else None
    if isinstance(recipe, TuneRecipe):
        if model is None:
            raise TrainingError(
                "a recipe for training further needs a checkpoint", "none is given", "name --model"
            )
        torch.manual_seed(recipe.seed)
        return checkpoint_task(model, recipe, frames)
    tokenizer = Tokenizer.from_json((run / UNITS).read_text(encoding="utf-8"))
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, AsrRecipe):
        objective = fresh_objective(recipe, tokenizer)
        return AsrTask(objective, recipe.decoder_from_step, frames=frames)
    assert isinstance(recipe, CtcRecipe)
    return CtcTask(AutCtc(recipe.model_config()), tokenizer, frames)


def _sentences(path: Path) -> list[str]:
    """The spoken lines of a text file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            "text for the units has to be a readable UTF-8 file", f"{path}: {error}", "check it"
        ) from error
    return [text for text in map(spoken, lines) if text]


def _dev_set(path: Path, recipe: Recipe, teller: Teller) -> list[Clip]:
    clips, found = _load(replace(recipe, batch_seconds=float("inf"), use_compile=False), [path])
    teller.say(f"{path.stem}: {found.describe()}")
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
    if which not in (BEST, LAST):
        raise TrainingError(
            f"a run keeps the checkpoints {BEST} and {LAST}",
            f"{which} was asked for",
            "choose one of them",
        )
    task = _task(*_read_run(run), run)
    load_weights(run / which, task.module)
    if not (out / "config.json").is_file() or not (out / "model.safetensors").is_file():
        return task.export(out, dtype)
    # The new one is whole before the old one goes.
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    task.export(fresh, dtype)
    shutil.rmtree(out)
    return fresh.rename(out)
