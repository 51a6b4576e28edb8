"""A whole checkpoint, trained further: all its weights, or adapters on its decoder."""

from __future__ import annotations

from pathlib import Path

import torch

from auris.checkpoints.configs import read_generation
from auris.checkpoints.ctc_head import load_ctc_head
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.checkpoints.validation import check_vocabulary
from auris.config import QwenAsrConfig
from auris.errors import TrainingError
from auris.models.qwen_asr import QwenAsr
from auris.text.tokenizer import Tokenizer
from auris.training.adapters import adapt
from auris.training.asr import AsrObjective, AsrTask
from auris.training.recipes import TuneRecipe

__all__ = ["checkpoint_task"]


def checkpoint_task(directory: Path, recipe: TuneRecipe, frames: int | None = None) -> AsrTask:
    """The model of a checkpoint in float32 with its CTC head, where it has one.

    Raises:
        TrainingError: the checkpoint is of another architecture, or a CTC loss is asked of one
            without a head.
        CheckpointError, TokenizerError, ConfigError: it cannot be read, or its vocabulary does
            not match its weights.
        MissingExtra: adapters are asked and peft is not installed.
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
            "a CTC loss needs a checkpoint with a CTC head",
            f"{directory} has none, and ctc_weight is {recipe.ctc_weight}",
            "set ctc_weight to 0",
        )
    model.requires_grad_(True)
    if head is not None:  # Without a loss of its own it stays as it is.
        head.requires_grad_(recipe.ctc_weight > 0)
    objective = AsrObjective(model, tokenizer, head, recipe.ctc_weight)
    if recipe.lora_rank:
        objective.requires_grad_(False)
        adapt(model, recipe.lora_rank, recipe.lora_alpha)
    generation = read_generation(checkpoint.directory)
    traits = load_inference_defaults(checkpoint.directory)
    return AsrTask(objective, frames=frames, generation=generation, traits=traits)
