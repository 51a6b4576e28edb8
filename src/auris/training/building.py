"""The model of a run as it begins: with fresh weights, or with those of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from auris.checkpoints.configs import read_generation
from auris.checkpoints.ctc_head import load_ctc_head
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.checkpoints.validation import check_vocabulary
from auris.config import QwenAsrConfig
from auris.errors import TrainingError
from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import AUDIO_PAD
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, adapt
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe, TuneRecipe
from auris.training.tasks import CtcTask, Task


def build_task(recipe: Recipe, model: Path | None, units: Tokenizer | None) -> Task:
    """The model of a run as it begins; fresh weights depend on the seed alone.

    Args:
        recipe: the recipe.
        model: the checkpoint that a `TuneRecipe` trains further.
        units: the text vocabulary of the others.

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
    model = QwenAsr(recipe.model_config(tokenizer.size, tokenizer.id(AUDIO_PAD)))
    # The embedding is the output layer too: at torch's own scale its first scores are far too sure.
    nn.init.normal_(model.decoder.embed.weight, std=recipe.hidden**-0.5)
    head = nn.Linear(recipe.hidden, tokenizer.size + 1) if recipe.with_head else None
    return AsrTask(model, tokenizer, recipe, head)


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
    tokenizer = Tokenizer.from_directory(checkpoint.directory)
    check_vocabulary(config, tokenizer)
    cpu = torch.device("cpu")
    model = load_weights(checkpoint, cpu, lambda stored: torch.float32, copy=True)
    assert isinstance(model, QwenAsr)
    head = load_ctc_head(checkpoint.directory, config, cpu, torch.float32)
    if head is None and recipe.ctc_weight > 0:
        raise TrainingError(
            "A CTC loss needs a checkpoint with a CTC head",
            f"{directory} has none, and ctc_weight is {recipe.ctc_weight}",
            "set ctc_weight to 0",
        )
    model.requires_grad_(True)
    if recipe.lora_rank:
        adapt(model, recipe.lora_rank, recipe.lora_alpha)
    if head is not None:  # Without a loss of its own it stays as it is.
        head.requires_grad_(recipe.ctc_weight > 0 and not recipe.lora_rank)
    return AsrTask(
        model,
        tokenizer,
        recipe,
        head,
        generation=read_generation(checkpoint.directory),
        defaults=load_inference_defaults(checkpoint.directory),
    )
