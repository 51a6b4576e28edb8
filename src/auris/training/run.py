"""A whole run: manifests in, checkpoints and a model directory out."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from auris.errors import AurisError, TrainingError, UsageError
from auris.evaluation.wer import require_jiwer
from auris.models.aut_ctc import AutCtc
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, fresh_objective
from auris.training.data import DataReport, TrainingClip, load_clips, read_manifest, with_units
from auris.training.folder import RunFolder
from auris.training.loop import Trainer
from auris.training.processes import leave, new_fabric
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe, TuneRecipe
from auris.training.reports import EPOCH_COLUMNS, LineReporter, ProgressReporter, RunLogger
from auris.training.starting import check_start, load_start, start_units
from auris.training.state import BEST, LAST, load_weights
from auris.training.tasks import CtcTask, Task
from auris.training.tuning import checkpoint_task
from auris.training.units import train_units, train_vocabulary

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["RunOptions", "Sources", "export_run", "train"]

VAL = "val"
"""Name of the development set that is split off the training clips."""


@dataclass(frozen=True)
class Sources:
    """What a run is made from.

    Attributes:
        data: training manifests; one that is given twice is heard twice an epoch.
        dev: development manifests, never trained on.
        texts: further text, a sentence a line, that helps to choose the units.
        model: the checkpoint that a `TuneRecipe` trains further.
        start: folder of another run, or a model, whose units and last weights this one begins with.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    model: Path | None = None
    start: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out.

    Attributes:
        resume: continue the run in its folder from its last checkpoint.
        workers: processes of each training process that prepare batches ahead.
        processes: training processes on this machine; under torchrun, those that it started.
        device: accelerator, see `auris.training.processes.new_fabric`.
        threads: processor threads of each process; by default torch decides.
    """

    resume: bool = False
    workers: int = 0
    processes: int = 1
    device: str = "cpu"
    threads: int | None = None


def train(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    options: RunOptions | None = None,
    reporter: ProgressReporter | None = None,
) -> Trainer:
    """Train a model of the recipe's kind.

    The folder `out` receives what `RunFolder` names, log.csv (a line an epoch), steps.csv (a line
    a step), curve.png, TensorBoard's events, the checkpoints `last` and `best`, and at the end
    `model`, the best checkpoint as a model directory.

    Raises:
        TrainingError: unusable manifests or recipe, or a folder that already holds another run.
        UsageError: options without effect, or more devices than there are.
        MissingExtra: a package that training needs is not installed.
        OutputError: the folder cannot be written.
    """
    options = options or RunOptions()
    _check_sources(recipe, sources, options)
    fabric = new_fabric(options.processes, recipe.bf16, options.device, recipe.idle_weights)
    try:
        trainer = _train(recipe, sources, out, options, reporter, fabric)
        fabric.barrier()
    finally:
        leave()
    return trainer


def _train(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    options: RunOptions,
    reporter: ProgressReporter | None,
    fabric: Fabric,
) -> Trainer:
    """A whole run in one of its processes."""
    if options.threads is not None:  # After Fabric, which chooses a number itself.
        torch.set_num_threads(options.threads)
    leads = fabric.global_rank == 0
    reporter = (reporter or LineReporter()) if leads else LineReporter(lambda line: None)
    folder = RunFolder(out)
    _together(fabric, lambda: _check_folder(folder, recipe, sources, options))
    clips, found = _load(recipe, sources.data)
    clips, held = _split(clips, recipe)
    if not clips:
        reporter.say(found.describe())
        raise TrainingError(
            "Training needs at least one usable clip",
            "there is none",
            "see the data report above",
        )
    if not options.resume:
        _together(fabric, lambda: _begin(folder, recipe, sources, clips))
    task = _task(recipe, sources.model, folder)
    clips, found = with_units(clips, task.preprocessor.spell, found, task.preprocessor.aligned)
    reporter.say(found.describe())
    dev = {_set_name(path): _dev_set(path, recipe, reporter) for path in sources.dev}
    if held:
        reporter.say(f"{VAL}: {len(held)} clips held back from training")
        dev[VAL] = held
    logger = RunLogger(out, reporter)
    trainer = Trainer(recipe, task, clips, dev, out, logger, fabric, options.workers)
    _together(fabric, lambda: folder.write_report(found.describe(names=None)))
    if options.resume:
        _together(fabric, trainer.resume, everywhere=True)
    elif sources.start is not None:
        load_start(sources.start, trainer.model)
    trainer.run()
    if leads:
        reporter.say(f"wrote {export_run(out, folder.model)}")
    return trainer


def _together(fabric: Fabric, act: Callable[[], object], everywhere: bool = False) -> None:
    """Let the leading process act, or all; what one cannot do ends all with the same error."""
    problem: AurisError | None = None
    if everywhere or fabric.global_rank == 0:
        try:
            act()
        except AurisError as error:
            problem = error
    if fabric.world_size > 1 and (told := fabric.broadcast(problem)) is not None:
        problem = told
    if problem is not None:
        raise problem


def _check_sources(recipe: Recipe, sources: Sources, options: RunOptions) -> None:
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
    tunes = isinstance(recipe, TuneRecipe)
    ignored = {
        "further text for the units of a checkpoint": tunes and sources.texts,
        "another run to start from, beside a checkpoint": tunes and sources.start,
        "another run to start from while one is resumed": options.resume and sources.start,
        "a checkpoint with a recipe that begins with fresh weights": not tunes and sources.model,
    }
    for what, given in ignored.items():
        if given:
            raise UsageError(
                "Every option has to have an effect", f"there is none for {what}", "leave it out"
            )


def _check_folder(folder: RunFolder, recipe: Recipe, sources: Sources, options: RunOptions) -> None:
    if options.resume:
        folder.check_same(recipe, sources.model)
    else:
        folder.check_new()
    if sources.start is not None:
        check_start(sources.start, recipe)


def _begin(
    folder: RunFolder, recipe: Recipe, sources: Sources, clips: Sequence[TrainingClip]
) -> None:
    """The folder of a new run and the units it begins with; what cannot begin leaves no recipe."""
    corpus = [clip.text for clip in clips] + [t for path in sources.texts for t in _sentences(path)]
    learned: Tokenizer | None = None
    if sources.start is None and isinstance(recipe, AsrRecipe):
        learned = train_vocabulary(corpus, recipe.vocabulary)
    elif sources.start is None and isinstance(recipe, CtcRecipe):
        learned = train_units(corpus, recipe.units)
    folder.begin(recipe, sources.model)
    if learned is not None:
        folder.write_units(learned)
    elif sources.start is not None:
        folder.write_units(start_units(sources.start))


def _load(
    recipe: Recipe, manifests: Sequence[Path], whole: bool = False
) -> tuple[list[TrainingClip], DataReport]:
    """Clips of manifests; `whole` ones are neither cut nor too long for a batch."""
    rows = [row for path in manifests for row in read_manifest(path)]
    return load_clips(
        rows,
        longest=math.inf if whole else recipe.batch_seconds,
        form=recipe.text_form,
        cut_seconds=math.inf if whole else recipe.longest_seconds,
        replies=not isinstance(recipe, CtcRecipe),
    )


def _split(
    clips: Sequence[TrainingClip], recipe: Recipe
) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Clips to train on and clips to score: a recording's samples and the seed decide, so that
    one which is listed twice is on one side.

    Raises:
        TrainingError: a share is asked for and holds no clip.
    """
    kept: list[TrainingClip] = []
    held: dict[bytes, TrainingClip] = {}
    for clip in clips if recipe.val_split else ():
        digest = hashlib.blake2b(
            clip.samples.tobytes(), salt=str(recipe.seed).encode()[:16]
        ).digest()
        if int.from_bytes(digest[:4], "big") < recipe.val_split * 2**32:
            held[digest] = clip
        else:
            kept.append(clip)
    if not recipe.val_split:
        return list(clips), []
    if not held and kept:
        raise TrainingError(
            "val_split has to hold back at least one clip",
            f"{recipe.val_split} of {len(kept)} clips is none",
            "raise it, set it to 0, or give a development set",
        )
    return kept, list(held.values())


def _task(recipe: Recipe, model: Path | None, folder: RunFolder) -> Task:
    """The model of a run as it begins; the seed alone decides fresh weights.

    Raises:
        TrainingError: the checkpoint to train further is missing.
    """
    frames = recipe.max_mel_length if recipe.use_compile else None
    if isinstance(recipe, TuneRecipe):
        if model is None:
            raise TrainingError(
                "a recipe for training further needs a checkpoint", "none is given", "name --model"
            )
        torch.manual_seed(recipe.seed)
        return checkpoint_task(model, recipe, frames)
    tokenizer = folder.units()
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, AsrRecipe):
        objective = fresh_objective(recipe, tokenizer)
        return AsrTask(objective, recipe.decoder_from_step, frames=frames)
    assert isinstance(recipe, CtcRecipe)
    return CtcTask(AutCtc(recipe.model_config()), tokenizer, frames, recipe.depths)


def _sentences(path: Path) -> list[str]:
    """The spoken lines of a text file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            "text for the units has to be a readable UTF-8 file", f"{path}: {error}", "check it"
        ) from error
    return [text for text in map(spoken, lines) if text]


def _set_name(path: Path) -> str:
    return path.stem.removesuffix("_dev")


def _dev_set(path: Path, recipe: Recipe, reporter: ProgressReporter) -> list[TrainingClip]:
    clips, found = _load(recipe, [path], whole=True)
    reporter.say(f"{path.stem}: {found.describe()}")
    if not clips:
        raise TrainingError(
            "a development set needs at least one usable clip", f"{path} has none", "leave it out"
        )
    return clips


def export_run(run: Path, out: Path, which: str = BEST, dtype: torch.dtype = torch.float16) -> Path:
    """Write a checkpoint of a run as a model directory.

    What is at `out` is replaced if it is a model, apart from its card (README.md), and only when
    the new one is whole.

    Args:
        run: the run's folder.
        which: "best" or "last".
        dtype: type of the written weights.

    Raises:
        TrainingError: the folder holds no such checkpoint.
        UsageError: `out` is a directory that holds no model, or the model that the run began with.
    """
    if which not in (BEST, LAST):
        raise TrainingError(
            f"a run keeps the checkpoints {BEST} and {LAST}",
            f"{which} was asked for",
            "choose one of them",
        )
    folder = RunFolder(run)
    recipe, model = folder.read()
    if model is not None and out.resolve() == model:
        raise UsageError(
            "A run does not replace the model that it began with",
            f"that is {str(out)!r}",
            "name another directory",
        )
    folder.check_model()
    task = _task(recipe, model, folder)
    load_weights(run / which, task.module)
    if not all(bool(p.isfinite().all()) for p in task.module.parameters()):
        raise TrainingError(
            "the weights of a model have to be numbers",
            f"the checkpoint {which} of {run} holds others",
            "export another checkpoint, or train with a lower rate",
        )
    out = out.resolve()
    if not (out / "config.json").is_file() or not any(out.glob("model*.safetensors")):
        return task.export(out, dtype)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    task.export(fresh, dtype)
    if (out / "README.md").is_file():
        shutil.copy(out / "README.md", fresh)
    shutil.rmtree(out)
    return fresh.rename(out)
