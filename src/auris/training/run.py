"""A run: from manifests to checkpoints and a model directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from auris.errors import AurisError, TrainingError, TrainingStopped, UsageError
from auris.evaluation.wer import require_jiwer
from auris.text.languages import language_name
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from auris.training.adapters import require_peft
from auris.training.building import build_task
from auris.training.data import (
    NOT_SAID,
    DataReport,
    ManifestRow,
    TrainedOn,
    TrainingClip,
    load_clips,
    read_manifest,
    split_clips,
    with_units,
)
from auris.training.exporting import check_export, dtype_named, export_run
from auris.training.folder import RunFolder
from auris.training.loop import Trainer
from auris.training.processes import leave, new_fabric
from auris.training.recipes import (
    DEFAULT_UNITS,
    DEFAULT_VOCABULARY,
    AsrRecipe,
    CtcRecipe,
    Recipe,
    TuneRecipe,
)
from auris.training.reports import EPOCH_COLUMNS, LineReporter, ProgressReporter, RunLogger
from auris.training.starting import check_start, load_start, start_trained_on, start_units
from auris.training.state import LAST, check_state
from auris.training.tasks import Task
from auris.training.units import train_units, train_vocabulary

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["RunOptions", "Sources", "train"]

VAL = "val"
"""Name of the development set that is split off the training clips."""


@dataclass(frozen=True)
class Sources:
    """What a run is made from.

    Attributes:
        data: training manifests; one that is given twice is used twice in every epoch.
        dev: development manifests, never trained on.
        texts: further text, a sentence a line, that helps to choose the units.
        model: the checkpoint that a `TuneRecipe` trains further.
        start: folder of another run, or a model, whose units and last weights this one begins with.
        language: code or English name of the language of rows that name none; by default they
            teach the model to name none.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    model: Path | None = None
    start: Path | None = None
    language: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out.

    Attributes:
        resume: continue the run in its folder from its last checkpoint.
        workers: processes of each training process that prepare batches ahead.
        processes: training processes on this machine; under torchrun, those that it started.
        device: accelerator, see `auris.training.processes.new_fabric`.
        threads: processor threads of each process; by default torch decides.
        dtype: type of the weights of the model that is written at the end, one of `DTYPES`.
    """

    resume: bool = False
    workers: int = 0
    processes: int = 1
    device: str = "cpu"
    threads: int | None = None
    dtype: str = "float16"


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
        TrainingStopped: SIGINT or SIGTERM stopped the run, and a checkpoint was written.
    """
    options = options or RunOptions()
    _check_sources(recipe, sources, options)
    fabric = new_fabric(options.processes, recipe.bf16, options.device, recipe.idle_weights)
    try:
        return _train(recipe, sources, out, options, reporter, fabric)
    except TrainingStopped:
        if fabric.global_rank > 0:  # One process says it.
            raise SystemExit(0) from None
        raise
    finally:
        leave()


def _train(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    options: RunOptions,
    reporter: ProgressReporter | None,
    fabric: Fabric,
) -> Trainer:
    """The run in one of its processes."""
    if options.threads is not None:  # After Fabric, which chooses a number itself.
        torch.set_num_threads(options.threads)
    leads = fabric.global_rank == 0
    reporter = (reporter or LineReporter()) if leads else LineReporter(lambda line: None)
    folder = RunFolder(out)
    _together(fabric, lambda: _check_folder(folder, recipe, sources, options))
    rows = _Rows.read(sources)
    texts = [text for path in sources.texts for text in _sentences(path)]
    task = _given_task(recipe, sources, folder, options)
    clips, report = _load(recipe, rows.data)
    clips, held = split_clips(clips, recipe.val_split, recipe.seed)
    if not clips:
        reporter.message(report.describe())
        raise TrainingError(
            "Training needs at least one usable clip",
            "there is none",
            "see the data report above",
        )
    if not options.resume:
        _together(fabric, lambda: _begin(folder, recipe, sources, clips, texts))
    if task is None:
        task = build_task(recipe, sources.model, folder.units())
    preprocessor = task.preprocessor
    clips, report = with_units(clips, preprocessor.spell, report, preprocessor.aligned)
    reporter.message(report.describe())
    dev = {_set_name(path): _dev_set(path, r, recipe, reporter) for path, r in rows.dev.items()}
    if recipe.val_split:
        reporter.message(f"{VAL}: {len(held)} clips held back from training")
    if held:
        dev[VAL] = held
    logger = RunLogger(out, reporter)
    trainer = Trainer(recipe, task, clips, dev, out, logger, fabric, options.workers)
    _together(fabric, lambda: folder.write_report(report.describe(names=None)))
    try:
        if options.resume:
            _together(fabric, trainer.resume, everywhere=True)
        trainer.run()
        if leads:
            model = export_run(out, folder.model, dtype=dtype_named(options.dtype))
            reporter.message(f"wrote {model}")
        fabric.barrier()
    finally:
        trainer.close()
    return trainer


@dataclass(frozen=True)
class _Rows:
    """Rows of all manifests, before any recording is read."""

    data: list[ManifestRow]
    dev: dict[Path, list[ManifestRow]]

    @classmethod
    def read(cls, sources: Sources) -> _Rows:
        """Of the run's manifests; a row that names no language has that of the sources."""
        language = language_name(sources.language) or NOT_SAID
        data = [row for path in sources.data for row in read_manifest(path, language)]
        return cls(data, {path: read_manifest(path, language) for path in sources.dev})


def _given_task(
    recipe: Recipe, sources: Sources, folder: RunFolder, options: RunOptions
) -> Task | None:
    """The model of a run that begins with given weights or goes on, checked; None where its units
    have to be learned first."""
    units: Tokenizer | None = None
    if not isinstance(recipe, TuneRecipe):
        if options.resume:
            units = folder.units()
        elif sources.start is not None:
            units = start_units(sources.start)
        else:
            return None
    task = build_task(recipe, sources.model, units)
    check_export(task, dtype_named(options.dtype))
    if options.resume:
        check_state(folder.path / LAST, task.module)
    elif sources.start is not None:
        load_start(sources.start, task.module)
    return task


def _together(fabric: Fabric, act: Callable[[], object], everywhere: bool = False) -> None:
    """Call `act` in the first process, or in all; an error in the first is raised in all."""
    problem: AurisError | None = None
    if everywhere or fabric.global_rank == 0:
        try:
            act()
        except AurisError as error:
            problem = error
    if fabric.world_size > 1 and (first := fabric.broadcast(problem)) is not None:
        problem = first
    if problem is not None:
        raise problem


def _check_sources(recipe: Recipe, sources: Sources, options: RunOptions) -> None:
    """Refuse what is wrong before anything is loaded."""
    dtype_named(options.dtype)
    language_name(sources.language)
    if isinstance(recipe, TuneRecipe) and recipe.lora_rank:
        require_peft()
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
        "another run to start from, with a checkpoint": tunes and sources.start,
        "another run to start from while one is resumed": options.resume and sources.start,
        "a checkpoint with a recipe that begins with fresh weights": not tunes and sources.model,
        "a language where a CTC model learns to write": isinstance(recipe, CtcRecipe)
        and sources.language,
    }
    for what, given in ignored.items():
        if given:
            raise UsageError(
                "Every option has to have an effect", f"there is none for {what}", "leave it out"
            )


def _check_folder(folder: RunFolder, recipe: Recipe, sources: Sources, options: RunOptions) -> None:
    folder.check_writable()
    if options.resume:
        folder.check_same(recipe, sources.model)
    else:
        folder.check_new()
    if sources.start is not None:
        check_start(sources.start, recipe)


def _begin(
    folder: RunFolder,
    recipe: Recipe,
    sources: Sources,
    clips: Sequence[TrainingClip],
    texts: Sequence[str],
) -> None:
    """Make the folder of a new run with its units; a run that cannot begin leaves no recipe."""
    corpus = [clip.text for clip in clips] + list(texts)
    trained_on = TrainedOn.of(clips, contexts=recipe.context_share > 0)
    units: Tokenizer | None = None
    if sources.start is not None:
        units = start_units(sources.start)
        trained_on = trained_on.after(start_trained_on(sources.start))
    elif isinstance(recipe, AsrRecipe):
        exactly = recipe.vocabulary is not None
        units = train_vocabulary(corpus, recipe.vocabulary or DEFAULT_VOCABULARY, exactly)
    elif isinstance(recipe, CtcRecipe):
        units = train_units(corpus, recipe.units or DEFAULT_UNITS, recipe.units is not None)
    folder.begin(recipe, sources.model, trained_on)
    if units is not None:
        folder.write_units(units)


def _load(
    recipe: Recipe, rows: Sequence[ManifestRow], unlimited: bool = False
) -> tuple[list[TrainingClip], DataReport]:
    """Clips of rows; `unlimited` ones are neither cut nor too long for a batch."""
    return load_clips(
        rows,
        longest=math.inf if unlimited else recipe.batch_seconds,
        form=recipe.text_form,
        cut_seconds=math.inf if unlimited else recipe.longest_seconds,
        replies=not isinstance(recipe, CtcRecipe),
    )


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


def _dev_set(
    path: Path, rows: Sequence[ManifestRow], recipe: Recipe, reporter: ProgressReporter
) -> list[TrainingClip]:
    clips, report = _load(recipe, rows, unlimited=True)
    reporter.message(f"{path.stem}: {report.describe()}")
    if not clips:
        raise TrainingError(
            "a development set needs at least one usable clip", f"{path} has none", "leave it out"
        )
    return clips
