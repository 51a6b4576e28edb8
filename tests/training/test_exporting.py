"""Checkpoints of a run as model directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from auris.cli.train import app
from auris.errors import TrainingError, UsageError
from auris.training.exporting import export_run
from auris.training.recipes import CtcRecipe, TuneRecipe
from auris.training.run_options import Sources
from tests.training.conftest import large_weights, train_here


def test_a_run_exports_the_mean_of_its_checkpoints(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(
        max_steps=8, decay_steps=0, checkpoint_steps=3, average_over=4, augment_from_epoch=99
    )
    run = tmp_path / "run"
    train_here(recipe, Sources([data]), run)
    after = {steps: stopped_after(steps, recipe, data, tmp_path) for steps in (3, 6)}
    mean = load_file(run / "average" / "model.safetensors")
    for name, weight in mean.items():
        assert torch.allclose(weight, (after[3][name] + after[6][name]) / 2, atol=1e-6), name
    exported = load_file(run / "model" / "model.safetensors")
    asked = export_run(run, tmp_path / "asked", "average")
    last = export_run(run, tmp_path / "last", "last")
    same = load_file(asked / "model.safetensors")
    assert all(torch.equal(exported[name], same[name]) for name in exported)
    newest = load_file(last / "model.safetensors")
    assert not all(torch.equal(exported[name], newest[name]) for name in exported)


def stopped_after(
    steps: int, recipe: CtcRecipe, data: Path, tmp_path: Path
) -> dict[str, torch.Tensor]:
    """The weights of a run at a step, by a run that is that long at the same steady rate."""
    shorter = dataclasses.replace(recipe, max_steps=steps, average_over=0)
    train_here(shorter, Sources([data]), tmp_path / f"after{steps}")
    return load_file(tmp_path / f"after{steps}" / "last" / "model.safetensors")


def test_only_best_and_last_can_be_exported(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="best and last"):
        export_run(tmp_path, tmp_path / "model", "middle")


def test_a_folder_that_is_not_a_model_is_not_replaced(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="new or empty"):
        export_run(tmp_path / "run", other)
    assert (other / "config.json").read_text() == "{}"
    assert export_run(tmp_path / "run", tmp_path / "run" / "model") == tmp_path / "run" / "model"
    assert not list((tmp_path / "run").glob(".model*"))


def test_weights_with_nan_are_not_written(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    out = tmp_path / "run"
    train_here(tiny(max_steps=1), Sources([data]), out)
    weights = load_file(out / "best" / "model.safetensors")
    weights["model.head.bias"][0] = float("nan")
    save_file(weights, out / "best" / "model.safetensors")
    with pytest.raises(TrainingError, match="have to be numbers"):
        export_run(out, tmp_path / "model")


def test_models_are_written_in_the_requested_dtype(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = TuneRecipe.of({"max_steps": 1, "lr": 1e-9, "bf16": False})
    sources = Sources([data], model=large_weights(tmp_path / "model"))
    train_here(recipe, sources, tmp_path / "tuned", dtype="bfloat16")
    written = load_file(tmp_path / "tuned" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    with pytest.raises(TrainingError, match="auris train export") as raised:
        export_run(tmp_path / "tuned", tmp_path / "half")
    assert "--dtype bfloat16" in raised.value.sentence
    call = ["export", "--run", str(tmp_path / "tuned"), "--out", str(tmp_path / "whole")]
    CliRunner().invoke(app, [*call, "--dtype", "float32"], catch_exceptions=False)
    written = load_file(tmp_path / "whole" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
