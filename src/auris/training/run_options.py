"""What a run is made from and how it is carried out, and which of that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auris.errors import TrainingError, UsageError
from auris.evaluation.wer import require_jiwer
from auris.text.languages import language_name
from auris.training.asr import require_peft
from auris.training.corpus.settings import CorpusReading
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.exporting import dtype_named
from auris.training.recipes import CtcRecipe, RecognizerRecipe, TuneRecipe
from auris.training.reports import EPOCH_COLUMNS, wandb_module

VAL = "val"
"""Name of the development set that is split off from the training clips."""


@dataclass(frozen=True)
class Sources:
    """What a run is made from.

    Attributes:
        data: training manifests; one that is given twice is used twice in every epoch.
        corpus: sources of `auris batch --input` that are read while the model is trained, instead
            of `data`.
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

    data: Sequence[Path] = ()
    dev: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    model: Path | None = None
    encoder: str | Path | None = None
    decoder: str | Path | None = None
    start: Path | None = None
    language: str | None = None
    corpus: Sequence[str] = ()


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
        peak_tflops: arithmetic that a device can do, in 10^12 operations a second, to log which
            share of it is used.
        wandb: project of Weights & Biases that receives the log, too.
    """

    resume: bool = False
    workers: int = 0
    processes: int = 1
    device: str = "cpu"
    threads: int | None = None
    dtype: str = "float16"
    peak_tflops: float | None = None
    wandb: str | None = None


def check_options(recipe: RecognizerRecipe, sources: Sources, options: RunOptions) -> None:
    """Refuse options that have no effect, or that cannot be followed.

    Raises:
        UsageError, TrainingError: such an option.
        MissingExtra: a package is not installed.
    """
    dtype_named(options.dtype)
    _check_data(recipe, sources)
    if options.wandb is not None:
        wandb_module()
    language_name(sources.language)
    if isinstance(recipe, TuneRecipe) and recipe.lora_rank:
        require_peft()
    if sources.dev or recipe.val_split:
        require_jiwer()
    check_set_names(sources.dev)
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


def _check_data(recipe: RecognizerRecipe, sources: Sources) -> None:
    """Refuse both kinds of data together, neither of them, and keys of the other kind."""
    if bool(sources.data) == bool(sources.corpus):
        raise UsageError(
            "A run is trained on --data or on --corpus",
            "both are given" if sources.data else "neither is given",
            "name manifests with --data, or sources with --corpus",
        )
    if not sources.corpus:
        if recipe.corpus != CorpusReading():
            raise UsageError(
                "The key corpus of a recipe is for --corpus",
                "the run has --data",
                "leave the key out",
            )
        return
    block, part = recipe.corpus.block_seconds, recipe.of_part.batch_seconds
    weights, sources_given = len(recipe.corpus.weights), len(sources.corpus)
    wrong = {
        "max_steps, since the length of an epoch is not known": (
            recipe.max_steps is None and "it has none"
        ),
        "a val_split of 0; give development sets with --dev": (
            recipe.val_split > 0 and f"it has {recipe.val_split:g}"
        ),
        "no weights, or one for each --corpus": (
            weights not in (0, sources_given)
            and f"it has {weights}, and --corpus is given {sources_given} times"
        ),
        "a larger memory_mb, or fewer readers": (
            block < part and f"a block holds {block:.1f} s, and a part of a batch has {part:.1f} s"
        ),
    }
    for what, actual in wrong.items():
        if actual:
            raise TrainingError(f"A recipe for --corpus needs {what}", actual, "correct the recipe")


def check_set_names(paths: Sequence[Path]) -> None:
    """Refuse development sets whose columns in the log would have one name, with TrainingError."""
    names = [set_name(path) for path in paths]
    taken = [name for name in names if names.count(name) > 1 or name in (*EPOCH_COLUMNS, VAL)]
    if taken:
        raise TrainingError(
            f"Development sets need names of their own, not {VAL} or {', '.join(EPOCH_COLUMNS)}",
            f"{taken[0]} is given twice or is one of these",
            "rename the file",
        )


def set_name(path: Path) -> str:
    """The name of a development set."""
    return path.stem.removesuffix("_dev")
