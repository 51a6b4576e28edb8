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
from auris.training.asr import require_peft
from auris.training.data import (
    UNNAMED,
    DataReport,
    ManifestRow,
    TrainedOn,
    TrainingClip,
    load_clips,
    read_manifest,
    split_clips,
    with_units,
)
from auris.training.decoder import DecoderTask
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.exporting import check_export, dtype_named, export_run, written
from auris.training.folder import JoinedModel, RunFolder
from auris.training.joining import ModelParts, load_parts, source_directories
from auris.training.loop import Trainer
from auris.training.processes import leave, new_fabric
from auris.training.recipes import (
    DEFAULT_UNITS,
    DEFAULT_VOCABULARY,
    AsrRecipe,
    CtcRecipe,
    RecognizerRecipe,
    TuneRecipe,
)
from auris.training.reports import EPOCH_COLUMNS, LineReporter, ProgressReporter, RunLogger
from auris.training.starting import (
    build_task,
    check_start,
    load_start,
    start_joined,
    start_trained_on,
    start_units,
)
from auris.training.state import LAST, check_state
from auris.training.tasks import Task
from auris.training.units import train_units, train_vocabulary

if TYPE_CHECKING:
    from lightning_fabric import Fabric


VAL = "val"
"""Name of the development set that is split off from the training clips."""


@dataclass(frozen=True)
class Sources:
    """What a run is made from.

    Attributes:
        data: training manifests; one that is given twice is used twice in every epoch.
        dev: development manifests, never trained on.
        texts: further text, a sentence a line, that helps to choose the units.
        model: the checkpoint that a `TuneRecipe` trains further.
        encoder: run, model directory or bundled model whose encoder a `DecoderRecipe` joins to a
            decoder.
        decoder: the same, whose decoder and vocabulary it takes; by default the decoder is new.
        start: folder of another run, or a model, whose units and last weights this one begins with.
        language: code or English name of the language of rows that name none; by default they
            teach the model to name none.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    model: Path | None = None
    encoder: str | Path | None = None
    decoder: str | Path | None = None
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
    recipe: RecognizerRecipe,
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
    _check_options(recipe, sources, options)
    # The projector takes no part in CTC, and the decoder none before its step.
    idle = not isinstance(recipe, AsrRecipe | TuneRecipe) or recipe.decoder_from_step > 0
    fabric = new_fabric(options.processes, recipe.bf16, options.device, idle)
    leads = fabric.global_rank == 0
    reporter = (reporter or LineReporter()) if leads else LineReporter(lambda line: None)
    try:
        return _Run(recipe, sources, RunFolder(out), options, reporter, fabric).train()
    except TrainingStopped:
        if leads:  # One message is enough.
            raise
        raise SystemExit(0) from None
    finally:
        leave()


@dataclass(frozen=True)
class _Run:
    """A run in one of its processes."""

    recipe: RecognizerRecipe
    sources: Sources
    folder: RunFolder
    options: RunOptions
    reporter: ProgressReporter
    fabric: Fabric

    def train(self) -> Trainer:
        """Train to the end of the recipe, and export the model."""
        options, fabric, out = self.options, self.fabric, self.folder.path
        if options.threads is not None:  # After Fabric, which chooses a number itself.
            torch.set_num_threads(options.threads)
        self._together(self._check_folder)
        task, clips, dev = self._prepare()
        logger = RunLogger(out, self.reporter)
        trainer = Trainer(self.recipe, task, clips, dev, out, logger, fabric, options.workers)
        try:
            if options.resume:
                self._together(trainer.resume, everywhere=True)
            if isinstance(self.recipe, DecoderRecipe):
                self.reporter.message(self.recipe.stages(trainer.steps))
            trainer.run()
            if fabric.global_rank == 0:
                model = export_run(out, self.folder.model, dtype=dtype_named(options.dtype))
                self.reporter.message(written(model))
            fabric.barrier()
        finally:
            trainer.close()
        return trainer

    def _prepare(self) -> tuple[Task, list[TrainingClip], dict[str, list[TrainingClip]]]:
        """The task, the clips with units and the development sets; a new run gets its folder."""
        recipe, sources = self.recipe, self.sources
        # All manifests are read before any recording is.
        language = language_name(sources.language) or UNNAMED
        rows = [row for path in sources.data for row in read_manifest(path, language)]
        dev_rows = {path: read_manifest(path, language) for path in sources.dev}
        texts = [text for path in sources.texts for text in _sentences(path)]
        parts = self._parts()
        task = self._given_task()
        report = self._load(rows, texts=isinstance(recipe, DecoderRecipe))
        report.clips, held_out = split_clips(report.clips, recipe.val_split, recipe.seed)
        if not any(clip.has_audio for clip in report.clips):
            self.reporter.message(report.describe())
            raise TrainingError("No clip can be used for training", "", "see the data report above")
        if recipe.use_compile and not all(clip.has_audio for clip in report.clips):
            raise TrainingError(
                "Runs with use_compile cannot use texts without audio",
                "a manifest has some",
                "leave them out, or set use_compile to false",
            )
        if not self.options.resume:
            self._together(lambda: self._begin(report.clips, texts, parts))
        if task is None:
            task = build_task(recipe, sources.model, self.folder.units(), self.folder.joined())
        if parts is not None:
            assert isinstance(task, DecoderTask)
            parts.copy_into(task.model)
            check_export(task, dtype_named(self.options.dtype))
        preprocessor = task.preprocessor
        report = with_units(report, preprocessor.spell, preprocessor.aligned)
        self.reporter.message(report.describe())
        dev = {_set_name(path): self._dev_set(path, rows) for path, rows in dev_rows.items()}
        if recipe.val_split:
            self.reporter.message(f"{VAL}: {len(held_out)} clips held back from training")
        if held_out:
            dev[VAL] = held_out
        self._together(lambda: self.folder.write_report(report.describe(names=None)))
        return task, report.clips, dev

    def _together(self, act: Callable[[], object], everywhere: bool = False) -> None:
        """Call `act` in the first process, or in all; an error in the first is raised in all."""
        problem: AurisError | None = None
        if everywhere or self.fabric.global_rank == 0:
            try:
                act()
            except AurisError as error:
                problem = error
        if self.fabric.world_size > 1:
            problem = self.fabric.broadcast(problem) or problem
        if problem is not None:
            raise problem

    def _check_folder(self) -> None:
        self.folder.check_writable()
        if self.options.resume:
            parts = source_directories(self.sources.encoder, self.sources.decoder)
            self.folder.check_same(self.recipe, self.sources.model, parts)
        else:
            self.folder.check_new()
        if self.sources.start is not None:
            check_start(self.sources.start, self.recipe)

    def _parts(self) -> ModelParts | None:
        """The parts that a new run joins; None for a run that joins none."""
        sources = self.sources
        if not isinstance(self.recipe, DecoderRecipe) or self.options.resume or sources.start:
            return None
        if sources.encoder is None:
            raise TrainingError(
                "A recipe for a decoder needs a trained encoder", "none is given", "name --encoder"
            )
        return load_parts(self.recipe, sources.encoder, sources.decoder)

    def _given_task(self) -> Task | None:
        """The task with checked weights; None where its units have to be learned first."""
        units: Tokenizer | None = None
        start, resume = self.sources.start, self.options.resume
        joined = self.folder.joined() if resume else self._start_joined()
        if not isinstance(self.recipe, TuneRecipe):
            if not resume and start is None:
                return None
            units = self.folder.units() if start is None else start_units(start)
        task = build_task(self.recipe, self.sources.model, units, joined)
        check_export(task, dtype_named(self.options.dtype))
        if resume:
            check_state(self.folder.path / LAST, task)
        elif start is not None:
            load_start(start, task)
        return task

    def _start_joined(self) -> JoinedModel | None:
        """What a `DecoderRecipe` trains that starts from another run or model."""
        start, recipe = self.sources.start, self.recipe
        if start is None or not isinstance(recipe, DecoderRecipe):
            return None
        return start_joined(start, recipe)

    def _begin(
        self, clips: Sequence[TrainingClip], texts: Sequence[str], parts: ModelParts | None
    ) -> None:
        """Make the folder of a new run with its units; a run that cannot begin leaves no recipe."""
        recipe, start = self.recipe, self.sources.start
        corpus = [clip.text for clip in clips] + list(texts)
        trained_on = TrainedOn.of(clips, contexts=recipe.context_share > 0)
        units: Tokenizer | None = None
        if start is not None:
            units = start_units(start)
            trained_on = trained_on.after(start_trained_on(start))
        elif parts is not None and parts.tokenizer is not None:
            units = parts.tokenizer
        elif isinstance(recipe, AsrRecipe | DecoderRecipe):
            exactly = recipe.vocabulary is not None
            units = train_vocabulary(corpus, recipe.vocabulary or DEFAULT_VOCABULARY, exactly)
        elif isinstance(recipe, CtcRecipe):
            units = train_units(corpus, recipe.units or DEFAULT_UNITS, recipe.units is not None)
        joined = self._start_joined()
        if parts is not None and isinstance(recipe, DecoderRecipe):
            assert units is not None
            joined = parts.joined(recipe, units)
        self.folder.begin(recipe, self.sources.model, trained_on, joined)
        if units is not None:
            self.folder.write_units(units)

    def _load(
        self, rows: Sequence[ManifestRow], unlimited: bool = False, texts: bool = False
    ) -> DataReport:
        """Clips of rows; `unlimited` ones are neither cut nor too long for a batch, and `texts` may
        have no audio."""
        recipe = self.recipe
        longest = math.inf if unlimited else recipe.batch_seconds
        cut = math.inf if unlimited else recipe.longest_seconds
        form = recipe.text if isinstance(recipe, TuneRecipe | DecoderRecipe) else "spoken"
        replies = not isinstance(recipe, CtcRecipe)
        return load_clips(rows, longest, form, cut, replies, texts)

    def _dev_set(self, path: Path, rows: Sequence[ManifestRow]) -> list[TrainingClip]:
        report = self._load(rows, unlimited=True)
        self.reporter.message(f"{path.stem}: {report.describe()}")
        if not report.clips:
            raise TrainingError(
                "A development set needs at least one usable clip",
                f"{path} has none",
                "leave it out",
            )
        return report.clips


def _check_options(recipe: RecognizerRecipe, sources: Sources, options: RunOptions) -> None:
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
            f"Development sets need names of their own, not {VAL} or {', '.join(EPOCH_COLUMNS)}",
            f"{taken[0]} is given twice or is one of these",
            "rename the file",
        )
    tunes, joins = isinstance(recipe, TuneRecipe), isinstance(recipe, DecoderRecipe)
    ignored = {
        "further text for the units of a checkpoint": tunes and sources.texts,
        "another run to start from, with a checkpoint": tunes and sources.start,
        "another run to start from while one is resumed": options.resume and sources.start,
        "a checkpoint with a recipe that begins with fresh weights": not tunes and sources.model,
        "an encoder or a decoder with a recipe that joins none": not joins
        and (sources.encoder or sources.decoder),
        "an encoder or a decoder for a run that starts from another": sources.start
        and (sources.encoder or sources.decoder),
        "further text for the units of a given decoder": sources.decoder and sources.texts,
        "a language where a CTC model learns to write": isinstance(recipe, CtcRecipe)
        and sources.language,
    }
    for what, given in ignored.items():
        if given:
            raise UsageError(f"An option has no effect here: {what}", "", "leave it out")


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            "Text for the units has to be a readable UTF-8 file", f"{path}: {error}", "check it"
        ) from error
    return [text for text in map(spoken, lines) if text]


def _set_name(path: Path) -> str:
    return path.stem.removesuffix("_dev")
