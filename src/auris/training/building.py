"""The model of a run, as it begins."""

from __future__ import annotations

from pathlib import Path

import torch

from auris.errors import TrainingError
from auris.models.aut_ctc import AutCtc
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, fresh_objective
from auris.training.recipes import AsrRecipe, CtcRecipe, Recipe, TuneRecipe
from auris.training.tasks import CtcTask, Task
from auris.training.tuning import checkpoint_task

__all__ = ["build_task"]


def build_task(recipe: Recipe, model: Path | None, units: Tokenizer | None) -> Task:
    """The model of a run as it begins; fresh weights depend on the seed alone.

    Args:
        recipe: the recipe.
        model: the checkpoint that a `TuneRecipe` trains further.
        units: the text vocabulary of the others.

    Raises:
        TrainingError: the checkpoint to train further is missing, or the units are not those of
            the recipe.
    """
    frames = recipe.max_mel_length if recipe.use_compile else None
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, TuneRecipe):
        if model is None:
            raise TrainingError(
                "a recipe for training further needs a checkpoint", "none is given", "name --model"
            )
        return checkpoint_task(model, recipe, frames)
    assert units is not None
    if isinstance(recipe, AsrRecipe):
        objective = fresh_objective(recipe, units)
        return AsrTask(objective, recipe.decoder_from_step, frames=frames)
    assert isinstance(recipe, CtcRecipe)
    if recipe.units not in (None, units.size):
        raise TrainingError(
            "the units of a run have to be as many as its recipe says",
            f"there are {units.size}, and the recipe says {recipe.units}",
            "correct units in the recipe, or leave it out",
        )
    return CtcTask(AutCtc(recipe.model_config(units.size)), units, frames, recipe.depths)
