"""A run: from manifests to checkpoints and a model directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from auris.errors import AurisError, TrainingError, TrainingStopped
from auris.text.languages import language_name
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from auris.training.corpus.plan import read_plan, write_plan
from auris.training.data import (
    ClipForm,
    DataReport,
    TrainingClip,
    load_clips,
    split_clips,
)
from auris.training.decoder import DecoderTask
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.exporting import check_export, dtype_named, export_run, written
from auris.training.folder import JoinedModel, RunFolder
from auris.training.joining import ModelParts, load_parts, source_directories
from auris.training.manifests import UNNAMED, ManifestRow, read_manifest
from auris.training.processes import leave, new_fabric
from auris.training.recipes import (
    DEFAULT_UNITS,
    DEFAULT_VOCABULARY,
    AsrRecipe,
    CtcRecipe,
    RecognizerRecipe,
    TuneRecipe,
)
from auris.training.reports import LineReporter, ProgressReporter, RunLogger
from auris.training.run_data import ClipsInMemory, CorpusInStorage, RunData
from auris.training.run_options import VAL, RunOptions, Sources, check_options, set_name
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
from auris.training.trainer import RecognizerParts, RecognizerTrainer
from auris.training.units import train_units, train_vocabulary

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    recipe: RecognizerRecipe,
    sources: Sources,
    out: Path,
    options: RunOptions | None = None,
    reporter: ProgressReporter | None = None,
) -> RecognizerTrainer:
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
    check_options(recipe, sources, options)
    # The projector takes no part in CTC, and the decoder none before its step.
    idle = not isinstance(recipe, AsrRecipe | TuneRecipe) or recipe.decoder_from_step > 0
    fabric = new_fabric(options.processes, recipe.bf16, options.device, idle)
    leads = fabric.global_rank == 0
    reporter = (reporter or LineReporter()) if leads else LineReporter(lambda line: None)
    try:
        with ExitStack() as stack:
            run = _Run(recipe, sources, RunFolder(out), options, reporter, fabric, stack)
            return run.train()
    except TrainingStopped:
        if leads:  # One message is enough.
            raise
        raise SystemExit(0) from None
    finally:
        leave()


@dataclass(frozen=True)
class _Run:
    """A run in one of its processes.

    Attributes:
        stack: closed when the run ends.
    """

    recipe: RecognizerRecipe
    sources: Sources
    folder: RunFolder
    options: RunOptions
    reporter: ProgressReporter
    fabric: Fabric
    stack: ExitStack

    def train(self) -> RecognizerTrainer:
        """Train to the end of the recipe, and export the model."""
        options, fabric, out = self.options, self.fabric, self.folder.path
        if options.threads is not None:  # After Fabric, which chooses a number itself.
            torch.set_num_threads(options.threads)
        self._together(self._check_folder)
        task, data, dev = self._prepare()
        logger = RunLogger(out, self.reporter, options.wandb)
        parts = RecognizerParts(self.recipe, task, dev, out, logger, fabric, options.workers)
        trainer = data.trainer(parts)
        if options.peak_tflops is not None:
            trainer.flops.peak = options.peak_tflops * 1e12
        try:
            if options.resume:
                self._together(trainer.resume, everywhere=True)
            if isinstance(self.recipe, DecoderRecipe):
                self.reporter.message(self.recipe.stages(trainer.steps))
            trainer.run()
            if fabric.global_rank == 0:
                trainer.release()
                dtype = dtype_named(options.dtype)
                # A second model would need more memory than training: most weights are frozen.
                adapted = isinstance(self.recipe, TuneRecipe) and self.recipe.lora_rank > 0
                reused = task.cpu() if adapted else None
                model = export_run(out, self.folder.model, dtype=dtype, task=reused)
                self.reporter.message(written(model))
            fabric.barrier()
        finally:
            trainer.close()
        return trainer

    def _prepare(self) -> tuple[Task, RunData, dict[str, list[TrainingClip]]]:
        """The task, the data and the development sets; a new run gets its folder."""
        recipe, sources = self.recipe, self.sources
        # All manifests are read before any recording is.
        language = language_name(sources.language) or UNNAMED
        rows = [row for path in sources.data for row in read_manifest(path, language)]
        dev_rows = {path: read_manifest(path, language) for path in sources.dev}
        texts = [text for path in sources.texts for text in _sentences(path)]
        parts = self._parts()
        task = self._given_task()
        data = self._corpus(language) if sources.corpus else self._clips(rows)
        if not self.options.resume:
            self._together(lambda: self._begin(data, texts, parts))
        if task is None:
            task = build_task(recipe, sources.model, self.folder.units(), self.folder.joined())
        if parts is not None:
            assert isinstance(task, DecoderTask)
            parts.copy_into(task.model)
            check_export(task, dtype_named(self.options.dtype))
        data.spell(task.preprocessor)
        self.reporter.message(data.describe())
        dev = {set_name(path): self._dev_set(path, rows) for path, rows in dev_rows.items()}
        if recipe.val_split:
            self.reporter.message(f"{VAL}: {len(data.held_out)} clips held out of training")
        if data.held_out:
            dev[VAL] = data.held_out
        self._together(lambda: self.folder.write_report(data.describe(names=None)))
        return task, data, dev

    def _clips(self, rows: Sequence[ManifestRow]) -> ClipsInMemory:
        """The clips of manifests, without the held-out ones."""
        recipe = self.recipe
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
        return ClipsInMemory(report, held_out)

    def _corpus(self, language: str) -> CorpusInStorage:
        """The corpus, whose plan a new run writes."""
        folder, sources = self.folder.corpus, self.sources.corpus
        if not self.options.resume:
            self._together(lambda: write_plan(folder, sources, self.recipe.corpus))
        texts = isinstance(self.recipe, DecoderRecipe) and not self.recipe.use_compile
        form = replace(self._form, texts=texts, language=language)
        return CorpusInStorage(read_plan(folder, sources), form)

    def _together(self, act: Callable[[], object], everywhere: bool = False) -> None:
        """Call `act` in the first process, or in all; an error in the first is raised in all, since
        they would wait for it."""
        problem: Exception | None = None
        if everywhere or self.fabric.global_rank == 0:
            try:
                act()
            except Exception as error:
                problem = error
        if self.fabric.world_size > 1:
            shared = problem
            if problem is not None and not isinstance(problem, AurisError):
                cause = f"{type(problem).__name__}: {problem}"
                shared = TrainingError("The first process failed", cause, "see its own message")
            shared = self.fabric.broadcast(shared)
            problem = problem or shared
        if problem is not None:
            raise problem

    def _check_folder(self) -> None:
        self.folder.check_writable()
        if self.options.resume:
            parts = source_directories(self.sources.encoder, self.sources.decoder)
            self.folder.check_same(self.recipe, self.sources.model, parts)
        self.stack.enter_context(self.folder.locked())
        if self.options.resume:
            self.folder.write_recipe(self.recipe)  # Of a run that goes on for longer.
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

    def _begin(self, data: RunData, texts: Sequence[str], parts: ModelParts | None) -> None:
        """Make the folder of a new run with its units; a run that cannot begin leaves no recipe."""
        recipe, start = self.recipe, self.sources.start
        trained_on = data.trained_on(recipe.context_share > 0)
        units: Tokenizer | None = None
        if start is not None:
            units = start_units(start)
            trained_on = trained_on.after(start_trained_on(start))
        elif parts is not None and parts.tokenizer is not None:
            units = parts.tokenizer
        elif isinstance(recipe, AsrRecipe | DecoderRecipe):
            exactly = recipe.vocabulary is not None
            units = train_vocabulary(
                [*data.texts(), *texts], recipe.vocabulary or DEFAULT_VOCABULARY, exactly
            )
        elif isinstance(recipe, CtcRecipe):
            units = train_units(
                [*data.texts(), *texts], recipe.units or DEFAULT_UNITS, recipe.units is not None
            )
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
        form = self._form
        return load_clips(rows, longest, form.form, cut, form.replies, texts)

    @property
    def _form(self) -> ClipForm:
        """How clips are made of rows."""
        recipe = self.recipe
        form = recipe.text if isinstance(recipe, TuneRecipe | DecoderRecipe) else "spoken"
        return ClipForm(form, replies=not isinstance(recipe, CtcRecipe))

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


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            "Text for the units has to be a readable UTF-8 file", f"{path}: {error}", "check it"
        ) from error
    return [text for text in map(spoken, lines) if text]
