"""The model of a run as it begins: fresh weights, a checkpoint to train further, or the weights and
units of another run or model.

A run may have more layers than what it begins with. The additional layers follow the given ones and
begin with outputs of zero, so that before the first step the larger model computes what the smaller
one did.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from auris.checkpoints.atomic import current_directory
from auris.checkpoints.config_writer import unofficial
from auris.checkpoints.configs import read_generation
from auris.checkpoints.ctc_head import CTC_HEAD, load_ctc_head
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.load import Checkpoint, Model, open_checkpoint, read_tokenizer
from auris.checkpoints.load import load_weights as load_model
from auris.checkpoints.validation import check_vocabulary
from auris.config import ModelConfig, QwenAsrConfig
from auris.errors import TrainingError
from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import AUDIO_PAD
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, adapt
from auris.training.base_recipe import Recipe
from auris.training.data import TrainedOn
from auris.training.decoder import DecoderTask
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.folder import RECIPE, JoinedModel, RunFolder
from auris.training.recipes import (
    AsrRecipe,
    CtcRecipe,
    RecognizerRecipe,
    ShapedRecipe,
    TuneRecipe,
)
from auris.training.state import AVERAGE, BEST, EMA, EMA_WEIGHTS, LAST, WEIGHTS, load_weights
from auris.training.step_checkpoints import step_checkpoints
from auris.training.tasks import CtcTask, Task

OUTPUTS = re.compile(r"(.*layers\.\d+)\.(?:out|down)\.(?:weight|bias)")
"""Names of the weights whose products a layer adds to what it was given."""

LAYER = re.compile(r"layers\.(\d+)\.")


def build_task(
    recipe: Recipe,
    model: Path | None,
    units: Tokenizer | None,
    joined: JoinedModel | None = None,
) -> Task:
    """The model of a run as it begins; fresh weights depend only on the seed.

    Args:
        model: the checkpoint that a `TuneRecipe` trains further.
        units: the text vocabulary of the others.
        joined: what a `DecoderRecipe` trains.

    Raises:
        TrainingError: the checkpoint to train further is missing, or the units are not those of
            the recipe; also as of `checkpoint_task`.
    """
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, TuneRecipe):
        if model is None:
            raise TrainingError(
                "A recipe for training further needs a checkpoint", "none is given", "name --model"
            )
        return checkpoint_task(model, recipe)
    assert units is not None
    if isinstance(recipe, AsrRecipe):
        return asr_task(recipe, units)
    if isinstance(recipe, DecoderRecipe):
        assert joined is not None
        return decoder_task(recipe, units, joined)
    assert isinstance(recipe, CtcRecipe)
    if recipe.units not in (None, units.size):
        raise TrainingError(
            "The units of a run have to be as many as its recipe says",
            f"there are {units.size}, and the recipe says {recipe.units}",
            "correct units in the recipe, or leave it out",
        )
    return CtcTask(AutCtc(recipe.model_config(units.size)), units, recipe)


def asr_task(recipe: AsrRecipe, tokenizer: Tokenizer) -> AsrTask:
    """A model of a recipe's shapes, with fresh weights and a CTC head."""
    model = _fresh_model(recipe.model_config(tokenizer.size, tokenizer.id(AUDIO_PAD)))
    head = nn.Linear(recipe.hidden, tokenizer.size + 1) if recipe.with_head else None
    return AsrTask(model, tokenizer, recipe, head)


def decoder_task(recipe: DecoderRecipe, tokenizer: Tokenizer, joined: JoinedModel) -> DecoderTask:
    """A joined model with fresh weights, and a CTC head where it has one."""
    model = _fresh_model(joined.config)
    decoder = joined.config.decoder
    head = nn.Linear(decoder.hidden, decoder.vocab + 1) if joined.head else None
    return DecoderTask(model, tokenizer, recipe, head, joined.fresh)


def _fresh_model(config: QwenAsrConfig) -> QwenAsr:
    model = QwenAsr(config)
    # The embedding is the output layer too: at torch's own scale its first scores are far too sure.
    nn.init.normal_(model.decoder.embed.weight, std=config.decoder.hidden**-0.5)
    return model


def checkpoint_named(run: Path, which: str | None) -> str:
    """The name of a checkpoint, by default "ema" or "average" where the run has one, else "best";
    or TrainingError."""
    if which is None:
        averaged = (current_directory(run / LAST) / EMA_WEIGHTS).exists()
        return EMA if averaged else AVERAGE if (run / AVERAGE).exists() else BEST
    numbered = [path.name for path in step_checkpoints(run)]
    if which not in (BEST, LAST, AVERAGE, EMA, *numbered):
        raise TrainingError(
            f"A run has the checkpoints {BEST} and {LAST}, {AVERAGE} with average_over, {EMA} with "
            f"ema_decay{''.join(f', {name}' for name in numbered)}",
            f"{which} was requested",
            "choose one of them",
        )
    return which


def checkpoint_weights(run: Path, which: str) -> dict[str, Tensor]:
    """The trained weights of a checkpoint of `checkpoint_named`, or TrainingError."""
    folder, file = (LAST, EMA_WEIGHTS) if which == EMA else (which, WEIGHTS)
    try:
        return load_file(current_directory(run / folder) / file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            "A checkpoint of a run has to be readable", f"{run / folder}: {error}", "use another"
        ) from error


def load_checkpoint(run: Path, which: str, model: nn.Module) -> None:
    """Read the weights of a checkpoint of `checkpoint_named` into a model of the same shapes."""
    if which == EMA:
        load_weights(run / LAST, model, EMA_WEIGHTS)
    else:
        load_weights(run / which, model)


def run_task(run: Path, which: str | None = None) -> Task:
    """The model of a checkpoint of a run.

    Args:
        which: as of `checkpoint_named`.

    Raises:
        TrainingError: the folder holds no such checkpoint, or its weights are not numbers.
    """
    which = checkpoint_named(run, which)
    folder = RunFolder(run)
    recipe, model = folder.read()
    folder.check_model()
    task = build_task(recipe, model, None if model else folder.units(), folder.joined())
    return with_checkpoint(task, run, which)


def with_checkpoint(task: Task, run: Path, which: str) -> Task:
    """The task of a run with the weights of a checkpoint, or TrainingError."""
    load_checkpoint(run, which, task)
    if not all(bool(p.isfinite().all()) for p in task.parameters()):
        raise TrainingError(
            "The weights of a model have to be numbers",
            f"the checkpoint {which} of {run} holds others",
            "export another checkpoint, or train with a lower rate",
        )
    return task


def checkpoint_task(directory: Path, recipe: TuneRecipe) -> AsrTask:
    """The model of a checkpoint in float32 with its CTC head, where it has one.

    Raises:
        TrainingError: the checkpoint is of another architecture, or the recipe has a CTC loss and
            the checkpoint no head.
        CheckpointError, TokenizerError, ConfigError: it cannot be read, or its vocabulary does
            not match its weights.
        MissingExtra: the recipe has adapters and peft is not installed.
    """
    checkpoint = open_checkpoint(directory)
    config = checkpoint.config
    if not isinstance(config, QwenAsrConfig):
        raise TrainingError(
            "auris train asr trains Qwen3-ASR models",
            f"{directory} holds an encoder with a CTC head only",
            "name a checkpoint with a decoder",
        )
    tokenizer = read_tokenizer(checkpoint)
    check_vocabulary(config, tokenizer)
    model, head = _load(checkpoint)
    assert isinstance(model, QwenAsr)
    if head is None and recipe.ctc_weight > 0:
        raise TrainingError(
            "A CTC loss needs a checkpoint with a CTC head",
            f"{directory} has none, and ctc_weight is {recipe.ctc_weight}",
            "set ctc_weight to 0",
        )
    model.requires_grad_(True)
    if recipe.lora_rank:
        adapt(model, recipe.lora_rank, recipe.lora_alpha)
    if head is not None:  # Without a CTC loss it is not trained.
        head.requires_grad_(recipe.ctc_weight > 0 and not recipe.lora_rank)
    return AsrTask(
        model,
        tokenizer,
        recipe,
        head,
        generation=read_generation(checkpoint.directory),
        defaults=load_inference_defaults(checkpoint.directory),
    )


def _load(checkpoint: Checkpoint) -> tuple[Model, nn.Linear | None]:
    """A model in float32 on the CPU, and its CTC head where it has one."""
    cpu = torch.device("cpu")
    model = load_model(checkpoint, cpu, lambda stored: torch.float32, copy=True)
    return model, load_ctc_head(checkpoint.directory, checkpoint.config, cpu, torch.float32)


def trained_directory(source: str | Path, option: str) -> Path:
    """The directory of a run, a model or a bundled model, which an option names.

    Raises:
        TrainingError: it is none of them.
    """
    path = Path(source)
    directory = path if path.is_dir() else bundled_models().get(str(source))
    if directory is None:
        raise TrainingError(
            f"{option} takes the folder of a run, a model directory or a bundled model",
            f"{str(source)!r} is none of them",
            "check the path; `auris pull` downloads a model and prints its directory",
        )
    return directory.resolve()


def is_run(source: Path) -> bool:
    """Whether a folder is a run's rather than a model's."""
    return (source / RECIPE).is_file()


def check_start(source: Path, recipe: Recipe) -> None:
    """Refuse a run or model of other shapes than the recipe's or of more layers.

    Raises:
        TrainingError: the shapes differ.
        CheckpointError, ConfigError: the model cannot be read.
    """
    if isinstance(recipe, DecoderRecipe):
        start_joined(source, recipe)
        return
    given: Recipe | ModelConfig
    given = RunFolder(source).read()[0] if is_run(source) else open_checkpoint(source).config
    shapes = _shapes(given)
    if shapes is None or not _grows(shapes, _shapes(recipe)):
        raise TrainingError(
            "A run can start from one of the same shapes and units only, or of fewer layers",
            f"{source} has others",
            "start from another run or model, or from nothing; --encoder takes the encoder alone",
        )


def start_joined(source: Path, recipe: DecoderRecipe) -> JoinedModel:
    """What a run of a `DecoderRecipe` trains that starts from a run or model with a decoder.

    Raises:
        TrainingError: it has no decoder.
        UsageError: the recipe has shapes.
        CheckpointError, ConfigError: the model cannot be read.
    """
    recipe.check_no_shapes("projector")
    config: ModelConfig | None
    if is_run(source):
        folder = RunFolder(source)
        given, joined = folder.read()[0], folder.joined()
        config = joined.config if joined else None
        if isinstance(given, AsrRecipe):
            units = folder.units()
            config = given.model_config(units.size, units.id(AUDIO_PAD))
        head = "head.weight" in checkpoint_weights(source, LAST)
    else:
        config = open_checkpoint(source).config
        head = (source / CTC_HEAD).is_file()
    if not isinstance(config, QwenAsrConfig):
        raise TrainingError(
            "A run with this recipe can start from a model with a decoder only",
            f"{source} has none",
            "name it with --encoder, to put a decoder behind its encoder",
        )
    encoder = dataclasses.replace(config.encoder, dropout=recipe.dropout)
    return JoinedModel(dataclasses.replace(config, encoder=encoder), fresh=False, head=head)


def asr_recipe_kind(
    model: Path | None, encoder: str | Path | None, begun: Path | None
) -> type[RecognizerRecipe]:
    """The kind of recipe of a run of `auris train asr`.

    Args:
        model: the checkpoint to train further.
        encoder: the encoder to join to a decoder.
        begun: the run or model that this run starts from, or the run that is resumed.
    """
    if model is not None:
        return TuneRecipe
    if encoder is not None:
        return DecoderRecipe
    if begun is None or not begun.is_dir():
        return AsrRecipe
    if is_run(begun):
        return DecoderRecipe if RunFolder(begun).joined() else AsrRecipe
    if not (begun / "config.json").is_file():
        return AsrRecipe
    config = open_checkpoint(begun).config
    return DecoderRecipe if isinstance(config, QwenAsrConfig) and unofficial(config) else AsrRecipe


def _shapes(source: Recipe | ModelConfig) -> dict[str, Any] | None:
    """What weights depend on; None where the recipe has no shapes."""
    if isinstance(source, Recipe) and not isinstance(source, ShapedRecipe):
        return None
    config = source.model_config() if isinstance(source, Recipe) else source
    values = {"kind": type(config).__name__, **dataclasses.asdict(config)}
    values["encoder"]["dropout"] = 0.0
    # A vocabulary counts its control tokens in a model and does not in a recipe; units are copied.
    values.pop("audio_token_id", None)
    values.pop("units", None)
    if isinstance(config, QwenAsrConfig):
        values["decoder"]["vocab"] = 0
    return values


def _grows(before: Any, after: Any) -> bool:
    """Whether all is the same but for layers, of which there may be more."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            after[key] >= before[key] if key == "layers" else _grows(before[key], after[key])
            for key in before
        )
    return bool(before == after)


def start_units(source: Path) -> Tokenizer:
    """The text units of a run or model directory."""
    return RunFolder(source).units() if is_run(source) else Tokenizer.from_directory(source)


def start_trained_on(source: Path) -> TrainedOn:
    """What the run or model has seen in training."""
    if is_run(source):
        return RunFolder(source).trained_on()
    defaults = load_inference_defaults(source)
    return TrainedOn(defaults.languages or (), defaults.contexts, defaults.lower_case)


def load_start(source: Path, task: nn.Module) -> None:
    """Read the last weights of a run, or a model's, into the task of a new run.

    Raises:
        TrainingError: they are those of another model.
    """
    stored = checkpoint_weights(source, LAST) if is_run(source) else _model_weights(source)
    needed = task.state_dict()
    missing = needed.keys() - stored.keys()
    layers: dict[str, int] = {}
    for name in stored:
        stack, number = _layer(name)
        layers[stack] = max(layers.get(stack, 1), number + 1)
    odd = sorted(stored.keys() - needed.keys())
    odd += sorted(n for n in missing if _layer(n)[1] < layers.get(_layer(n)[0], 1))
    odd += sorted(n for n in stored.keys() & needed.keys() if stored[n].shape != needed[n].shape)
    if odd:
        raise TrainingError(
            "A run can start from weights of its own model only",
            f"{odd[0]} and {len(odd) - 1} more are not in both",
            "start from another run or model",
        )
    task.load_state_dict(stored, strict=False)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if name in missing and OUTPUTS.fullmatch(name):
                weight.zero_()


def _layer(name: str) -> tuple[str, int]:
    """A weight's stack of layers and the number of its layer, or its own name and -1."""
    match = LAYER.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, -1)


def _model_weights(source: Path) -> dict[str, Tensor]:
    """Weights of a model under the names that its task gives them."""
    model, head = _load(open_checkpoint(source))
    modules = {"model": model} if head is None else {"model": model, "head": head}
    return nn.ModuleDict(modules).state_dict()
