"""Runs that start with the weights of another run or model, possibly with fewer layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from auris.errors import CheckpointError, TrainingError
from auris.training.asr import AsrTask
from auris.training.base_recipe import Recipe
from auris.training.examples import TrainingBatch
from auris.training.recipes import AsrRecipe, CtcRecipe
from auris.training.run import export_run, train
from auris.training.run_options import RunOptions, Sources
from auris.training.starting import asr_task, check_start, load_start, start_units
from auris.training.state import update_average
from tests.training.conftest import quiet
from tests.training.tones import tones, write_wav

MakeRecipe = Callable[..., Recipe]
TEXTS = ("ab", "abc", "dcba", "cab")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "tones_train.csv"
    for text in TEXTS:
        write_wav(tmp_path / f"{text}.wav", tones(text))
    path.write_text("wav,text\n" + "".join(f"{text}.wav,{text}\n" for text in TEXTS))
    return path


def run(recipe: Recipe, data: Path, out: Path, start: Path | None = None) -> torch.nn.Module:
    trainer = train(recipe, Sources([data], start=start), out, RunOptions(), quiet())
    return trainer.task


def losses(recipe: AsrRecipe, start: Path) -> Tensor:
    """Losses of a new model of a recipe that starts from `start`."""
    check_start(start, recipe)
    torch.manual_seed(5)
    task = asr_task(recipe, start_units(start))
    load_start(start, task)
    return spoken_losses(task)


def spoken_losses(task: AsrTask) -> Tensor:
    layers = task.model.config.encoder.layers
    task.eval()
    task.depths = {layers: 1.0}
    torch.manual_seed(6)
    mels = [torch.randn(128, 90), torch.randn(128, 150)]
    batch = TrainingBatch(mels, [(97, 98), (99, 100, 97)], ["English"] * 2, ["", "abba"])
    sums: Tensor = task(batch)[0]
    return sums.detach()


@pytest.mark.parametrize("source", ["run", "model"])
def test_a_deeper_model_starts_with_the_outputs_of_its_start(
    source: str, data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    small = tiny_asr(max_steps=3)
    run(small, data, tmp_path / "first")
    start = tmp_path / "first"
    if source == "model":
        start = export_run(tmp_path / "first", tmp_path / "model", "last", torch.float32)
    deep = dataclasses.replace(small, n_layers=3, decoder_layers=2, dropout=0.2)
    assert torch.equal(losses(deep, start), losses(small, start))
    other = tiny_asr(seed=9)
    torch.manual_seed(9)
    fresh = spoken_losses(asr_task(other, start_units(start)))
    assert not torch.allclose(fresh, losses(small, start))


def test_the_added_layers_are_trained(
    data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    run(tiny_asr(max_steps=2), data, tmp_path / "first")
    deep = tiny_asr(max_steps=6, n_layers=2, decoder_layers=2)
    weights = run(deep, data, tmp_path / "second", tmp_path / "first").state_dict()
    for name in ("encoder.layers.1.out", "encoder.layers.1.down", "decoder.layers.1.down"):
        assert weights[f"model.{name}.weight"].abs().max() > 0


def test_layers_are_added_to_a_ctc_model(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    first = run(tiny(max_steps=3), data, tmp_path / "first").eval()
    deep = tiny(max_steps=1, n_layers=2, lr=1e-12)
    second = run(deep, data, tmp_path / "second", tmp_path / "first").eval()
    mel = torch.randn(32, 120)
    assert torch.allclose(first.model([mel])[0], second.model([mel])[0], atol=1e-5)


def test_a_run_with_a_head_cannot_start_from_a_model_without_one(
    data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    run(tiny_asr(max_steps=1, ctc_weight=0.0), data, tmp_path / "first")
    with pytest.raises(TrainingError, match="weights of its own model"):
        run(tiny_asr(max_steps=1), data, tmp_path / "second", tmp_path / "first")


@pytest.mark.parametrize(
    "changes", [{"d_ff": 8}, {"n_layers": 1}, {"decoder_ff": 16}, {"head_dim": 4}]
)
def test_other_shapes_and_fewer_layers_are_refused(
    changes: dict[str, int], data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    run(tiny_asr(max_steps=1, n_layers=2), data, tmp_path / "first")
    recipe = tiny_asr(**{"max_steps": 1, "n_layers": 2, **changes})
    with pytest.raises(TrainingError, match="same shapes"):
        run(recipe, data, tmp_path / "second", tmp_path / "first")


def test_a_run_of_another_kind_is_refused(
    data: Path, tmp_path: Path, tiny: MakeRecipe, tiny_asr: MakeRecipe
) -> None:
    run(tiny(max_steps=1), data, tmp_path / "first")
    with pytest.raises(TrainingError, match="same shapes"):
        run(tiny_asr(max_steps=1), data, tmp_path / "second", tmp_path / "first")


def test_a_folder_without_a_model_is_refused(data: Path, tmp_path: Path, tiny: MakeRecipe) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((TrainingError, CheckpointError)):
        run(tiny(max_steps=1), data, tmp_path / "second", tmp_path / "empty")


def test_a_mean_of_weights_counts_each_step_once(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    for step, weight in ((1, 2.0), (2, 4.0), (2, 99.0), (3, 6.0), (4, 8.0)):
        torch.nn.init.constant_(model.weight, weight)
        update_average(tmp_path / "average", model, 3, step)
    kept = load_file(tmp_path / "average" / "model.safetensors")
    # The mean of 2, 4 and 6, of which 8 then takes a third.
    assert float(kept["weight"]) == pytest.approx(4.0 + (8.0 - 4.0) / 3)
    with pytest.raises(TrainingError, match="its own model"):
        update_average(tmp_path / "average", torch.nn.Linear(2, 1), 3, 5)
