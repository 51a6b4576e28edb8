"""Recipes are validated when read, and the shipped ones are valid."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from auris.errors import TrainingError, UsageError
from auris.training.base_recipe import Recipe
from auris.training.recipes import AsrRecipe, CtcRecipe, RecognizerRecipe, TuneRecipe

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_shipped_recipe_is_the_tiny_model() -> None:
    config = CtcRecipe.read(RECIPES / "tiny_ctc.json").model_config()
    encoder = config.encoder
    shapes = (encoder.mel_bins, encoder.layers, encoder.d_model, encoder.heads, encoder.ffn)
    assert shapes == (128, 4, 192, 3, 768)
    assert encoder.norm == "rms"
    assert config.frontend == "htk1024"
    assert config.projector is not None
    assert config.projector.out == 256
    assert not config.projector.bias
    assert config.blank == config.units


def test_the_other_shipped_recipe_is_the_tiny_qwen() -> None:
    config = AsrRecipe.read(RECIPES / "tiny.json").model_config(776, 773)
    assert config.encoder.norm == "layer"
    assert config.frontend == "slaney400"
    assert config.projector.hidden == config.encoder.d_model
    assert config.decoder.tied


@pytest.mark.parametrize(
    ("deep", "start"),
    [("tiny_deep", "tiny_last"), ("tiny_finish", "tiny_deep"), ("tiny_context", "tiny_finish")],
)
def test_later_stages_of_tiny_start_from_the_previous_stage(deep: str, start: str) -> None:
    recipe, before = (AsrRecipe.read(RECIPES / f"{name}.json") for name in (deep, start))
    assert recipe.middle_layer == 6
    grown = dataclasses.replace(before, n_layers=recipe.n_layers)
    assert grown.model_config(776, 0).decoder == recipe.model_config(776, 0).decoder
    assert dataclasses.replace(grown, dropout=recipe.dropout).encoder_config() == (
        recipe.encoder_config()
    )


def test_the_deeper_ctc_model_starts_from_the_smaller_one() -> None:
    recipe, before = (
        CtcRecipe.read(RECIPES / f"{name}.json") for name in ("tiny_ctc_deep", "tiny_ctc_more")
    )
    grown = dataclasses.replace(before, n_layers=recipe.n_layers)
    assert grown.model_config() == recipe.model_config()


def test_fine_tuning_recipes_have_no_model_shapes() -> None:
    recipe = TuneRecipe.of({"max_steps": 1, "lora_rank": 4})
    assert recipe.text == "written"
    with pytest.raises(TrainingError, match="it has d_model"):
        TuneRecipe.of({"max_steps": 1, "d_model": 8})
    for wrong in ({"text": "loud"}, {"lora_rank": -1}, {"lora_alpha": 0}, {"ctc_weight": 2}):
        with pytest.raises(TrainingError, match=next(iter(wrong))):
            TuneRecipe.of({"max_steps": 1, **wrong})
    for corpus in ("x", [1], None):
        with pytest.raises(TrainingError, match="corpus has to be an object"):
            TuneRecipe.of({"max_steps": 1, "corpus": corpus})


def test_unknown_keys_are_refused_by_name() -> None:
    with pytest.raises(TrainingError, match="it has beam, layers"):
        Recipe.of({"layers": 4, "max_steps": 1, "beam": 2})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"max_steps": 1, "lr": "fast"}, "lr"),
        ({"max_steps": 1, "units": 300.5}, "units"),
        ({"max_steps": 1, "seed": True}, "seed"),
        ({"max_steps": 1, "bf16": 1}, "bf16"),
        ({"max_steps": 1, "batch_seconds": 0}, "batch_seconds"),
        ({"max_steps": 1, "wd": -1}, "wd"),
        ({"max_steps": 1, "join_most": 1}, "join_most"),
        ({"max_steps": 1, "stem": 5}, "stem"),
        ({"max_steps": 1, "stem": "conv3d"}, "stem"),
        ({"max_steps": 1, "downsample_time": 4}, "downsample_time has to be 8"),
        ({"max_steps": 1, "target_hz": 25.0}, "target_hz has to be 12.5"),
        ({"max_steps": 1, "val_split": 1.0}, "val_split"),
        ({"max_steps": 1, "max_mel_length": 50}, "max_mel_length"),
        ({"max_steps": 1, "use_compile": True, "batch_seconds": 10}, "max_mel_length"),
        ({"max_steps": 1, "gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"max_steps": 1, "epochs": 1}, "the other absent"),
        ({"max_steps": 0}, "epochs or max_steps has to be positive"),
        ({"max_steps": 1, "sample_rate": 8000}, "sample_rate has to be 16000"),
        ({"max_steps": 1, "n_fft": 512}, "n_fft has to be 1024"),
        ({"max_steps": 1, "window_seconds": 9}, "window_seconds has to be less than or equal to 8"),
        ({"max_steps": 1, "units": 0}, "units has to be greater than 0"),
        ({"max_steps": 1, "batch_size": 0}, "batch_size"),
        ({"max_steps": 1, "batch_size": True}, "batch_size"),
        ({"max_steps": 1, "batch_size": 2, "batch_seconds": 9}, "together with batch_seconds"),
        ({"max_steps": 1, "wd": math.inf}, "wd"),
        ({"max_steps": 1, "wd": math.nan}, "wd"),
        ({"max_steps": 1, "warmup_steps": 10**400}, "warmup_steps"),
        ({"max_steps": 1, "units": 10**30}, "units"),
        ({"max_steps": 1, "silence_share": 1e8}, "silence_share"),
        ({"epochs": 10**9}, "epochs"),
        ({"max_steps": 1, "batch_seconds": 1e308}, "batch_seconds"),
        ({"max_steps": 1, "gradient_accumulation_steps": 2**63}, "gradient_accumulation_steps"),
        ({"max_steps": 1, "n_heads": 5}, "multiple of its heads"),
        ([], "JSON object"),
    ],
)
def test_invalid_values_are_refused(values: Any, named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        CtcRecipe.of(values)


def test_unreadable_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="readable JSON"):
        Recipe.read(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(TrainingError, match="readable JSON"):
        Recipe.read(tmp_path / "bad.json")


def test_a_recipe_round_trips_through_json() -> None:
    recipe = CtcRecipe.of({"max_steps": 7, "lr": 1})
    assert CtcRecipe.of(dataclasses.asdict(recipe)) == recipe


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    recipe = Recipe.of({"max_steps": 100, "warmup_steps": 10, "lr": 0.5})
    rates = [recipe.learning_rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == 0.5
    assert rates[55] == pytest.approx(0.25)
    assert rates[100] == pytest.approx(0.0)
    assert all(math.isfinite(rate) for rate in rates)
    assert Recipe.of({"max_steps": 9, "warmup_steps": 0}).learning_rate(0, 9) > 0


def test_learning_rate_is_constant_until_it_decays() -> None:
    values = {"max_steps": 100, "warmup_steps": 10, "decay_steps": 20, "lr": 0.5}
    rates = [Recipe.of(values).learning_rate(step, 100) for step in range(101)]
    assert rates[9:81] == [0.5] * 72
    assert rates[90] == pytest.approx(0.25)
    assert rates[100] == pytest.approx(0.0)
    steady = Recipe.of({**values, "decay_steps": 0})
    assert steady.learning_rate(99, 100) == 0.5


def test_a_former_key_name_is_accepted() -> None:
    assert RecognizerRecipe.of({"max_steps": 1, "hush_share": 0.5}).silence_share == 0.5
    with pytest.raises(TrainingError, match="silence_share under its present and its former name"):
        RecognizerRecipe.of({"max_steps": 1, "hush_share": 0.5, "silence_share": 0.5})


def test_a_recipe_without_a_length() -> None:
    recipe = CtcRecipe.of({})
    assert (recipe.epochs, recipe.max_steps) == (None, None)
    assert CtcRecipe.of(dataclasses.asdict(recipe)) == recipe


def test_rows_of_a_batch_are_counted_in_seconds() -> None:
    assert RecognizerRecipe.of({"batch_size": 3, "max_mel_length": 1000}).batch_seconds == 30.0
    assert RecognizerRecipe.of({"batch_size": 3, "use_compile": True}).rows == 3


@pytest.mark.parametrize("kind", [CtcRecipe, AsrRecipe])
def test_the_attention_window_can_be_chosen(kind: type[CtcRecipe] | type[AsrRecipe]) -> None:
    assert kind.of({}).encoder_config().window_tokens == 104
    assert kind.of({"window_seconds": 2}).encoder_config().window_tokens == 26
