"""A run that trains a speaker encoder: from manifests to checkpoints and a model directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from auris.checkpoints.atomic import current_directory
from auris.checkpoints.speaker import load_campplus, save_speaker_encoder
from auris.errors import TensorError, TrainingError, UsageError
from auris.training.data import TrainedOn, TrainingClip, load_clips
from auris.training.exporting import dtype_named
from auris.training.folder import RunFolder
from auris.training.joining import load_encoder
from auris.training.loop import LoopParts
from auris.training.manifests import read_manifest
from auris.training.processes import leave, new_fabric
from auris.training.reports import LineReporter, ProgressReporter, RunLogger
from auris.training.run_options import RunOptions, check_set_names, set_name
from auris.training.speaker import SpeakerTask, SpeakerTrainer
from auris.training.speaker_data import SPEEDS, SpeakerClips, Teacher, without_pauses
from auris.training.speaker_recipe import SpeakerRecipe
from auris.training.starting import checkpoint_named, load_checkpoint
from auris.training.state import EMA, LAST, WEIGHTS, check_state

SHORTEST_CLIP = 0.4
"""Clips with less speech are left out, in seconds."""

TEXT = "speech"
"""Stands for the texts of clips, which have no effect."""


@dataclass(frozen=True)
class SpeakerSources:
    """What a speaker encoder is trained from.

    Attributes:
        data: training manifests with a column speaker.
        dev: manifests of other speakers, whose equal error rate is measured after every epoch.
        encoder: run, model directory or bundled model whose audio encoder a new run begins with.
        teacher: checkpoint of CAM++ (.pt or .safetensors) whose embeddings are imitated.
    """

    data: Sequence[Path]
    dev: Sequence[Path] = ()
    encoder: str | Path | None = None
    teacher: Path | None = None


def train_speaker(
    recipe: SpeakerRecipe,
    sources: SpeakerSources,
    out: Path,
    options: RunOptions | None = None,
    reporter: ProgressReporter | None = None,
) -> SpeakerTrainer:
    """Train a speaker encoder. The folder `out` receives what `auris.training.run.train` writes.

    Raises:
        TrainingError: unusable manifests or recipe, or a folder that already holds another run.
        UsageError: options without effect, or there is no such device.
        ModelNotFound, CheckpointError: the teacher cannot be read.
        MissingExtra: a package that training needs is not installed.
        OutputError: the folder cannot be written.
        TrainingStopped: SIGINT or SIGTERM stopped the run, and a checkpoint was written.
    """
    options, reporter = options or RunOptions(), reporter or LineReporter()
    dtype_named(options.dtype)
    _check_sources(recipe, sources, options)
    folder = RunFolder(out)
    folder.check_writable()
    if options.resume:
        folder.check_same(recipe, None, (None, None))
    with folder.locked():
        if not options.resume:
            folder.check_new()
        return _train(recipe, sources, folder, options, reporter)


def _train(
    recipe: SpeakerRecipe,
    sources: SpeakerSources,
    folder: RunFolder,
    options: RunOptions,
    reporter: ProgressReporter,
) -> SpeakerTrainer:
    """Train a speaker encoder in a folder that was checked."""
    out = folder.path
    teacher = None if sources.teacher is None else load_teacher(sources.teacher, recipe)
    clips = _clips(sources.data, reporter)
    dev = {set_name(path): _clips([path], reporter) for path in sources.dev}
    for name, mine in dev.items():
        _check_speakers(mine, f"The development set {name}")
    _check_speakers(clips, "A training set of speakers")
    data = SpeakerClips(clips, recipe, teacher)
    torch.manual_seed(recipe.seed)
    task = SpeakerTask(recipe, data.speakers)
    if options.resume:
        check_state(out / LAST, task)
    else:
        if sources.encoder is not None:
            load_encoder(sources.encoder, task.model.encoder)
        folder.begin(recipe, None, TrainedOn())
    fabric = new_fabric(1, recipe.bf16, options.device, idle=True)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    parts = LoopParts(recipe, task, dev, out, RunLogger(out, reporter), fabric)
    trainer = SpeakerTrainer(parts, data)
    try:
        if options.resume:
            trainer.resume()
        trainer.run()
        model = export_speaker(out, folder.model, dtype=dtype_named(options.dtype))
        reporter.message(f"wrote {model}")
    finally:
        trainer.close()
        leave()
    return trainer


def export_speaker(
    run: Path, out: Path, which: str | None = None, dtype: torch.dtype = torch.float16
) -> Path:
    """Write a checkpoint of a run as a directory; arguments as of `exporting.export_run`.

    Raises:
        TrainingError: the folder holds no such checkpoint, or its weights do not fit into `dtype`.
        UsageError: `out` is a directory that holds no model.
    """
    which = checkpoint_named(run, which)
    recipe, _ = RunFolder(run).read()
    assert isinstance(recipe, SpeakerRecipe)
    task = SpeakerTask(recipe, _classes(run / (LAST if which == EMA else which)))
    load_checkpoint(run, which, task)
    try:
        return save_speaker_encoder(task.model, float(task.threshold), out.resolve(), dtype)
    except TensorError as error:
        raise TrainingError(error.rule, error.actual, "write it with --dtype float32") from error


def load_teacher(path: Path, recipe: SpeakerRecipe) -> Teacher:
    """The teacher of a CAM++ checkpoint.

    Raises:
        ModelNotFound, CheckpointError: it is missing, or is no such checkpoint.
        TrainingError: its embeddings have another size than the recipe's.
    """
    network, digest = load_campplus(path)
    if network.width != recipe.embedding:
        raise TrainingError(
            "Embeddings have to be as large as those of the teacher",
            f"embedding is {recipe.embedding}, and the teacher has {network.width}",
            "correct the recipe",
        )
    return Teacher(network, digest)


def _classes(checkpoint: Path) -> int:
    """Speakers that a checkpoint was trained on."""
    try:
        with safe_open(current_directory(checkpoint) / WEIGHTS, "pt") as stored:
            return int(stored.get_slice("classes").get_shape()[0]) // len(SPEEDS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            "A run has to hold the checkpoint of a speaker encoder",
            f"{checkpoint}: {error}",
            "choose another checkpoint, or train anew",
        ) from error


def _check_sources(recipe: SpeakerRecipe, sources: SpeakerSources, options: RunOptions) -> None:
    check_set_names(sources.dev)
    if (sources.teacher is None) != (recipe.teacher_weight == 0):
        raise UsageError(
            "--teacher and teacher_weight of the recipe belong together",
            f"teacher_weight is {recipe.teacher_weight:g}, and --teacher is "
            + ("absent" if sources.teacher is None else "given"),
            "give both or neither",
        )
    if options.resume and sources.encoder is not None:
        raise UsageError(
            "--encoder is for a new run",
            "a run is resumed, which has weights already",
            "leave --encoder out",
        )


def _clips(paths: Sequence[Path], reporter: ProgressReporter) -> list[TrainingClip]:
    """Clips of manifests without their pauses."""
    rows = [
        dataclasses.replace(row, text=row.text or TEXT)
        for path in paths
        for row in read_manifest(path)
    ]
    report = load_clips(rows, math.inf, "written", replies=False)
    reporter.message(report.describe())
    clips = [
        dataclasses.replace(clip, samples=without_pauses(clip.samples)) for clip in report.clips
    ]
    return [clip for clip in clips if clip.seconds >= SHORTEST_CLIP]


def _check_speakers(clips: Sequence[TrainingClip], what: str) -> None:
    speakers = len({clip.speaker for clip in clips} - {""})
    if speakers < 2:
        raise TrainingError(
            f"{what} needs at least two speakers",
            f"it has usable clips of {speakers}",
            "add a column speaker, or further clips",
        )
