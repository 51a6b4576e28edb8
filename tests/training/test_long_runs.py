"""What long runs need: scoring between epochs, early stopping, averages, kept checkpoints, longer
runs, throughput, less memory."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from auris.errors import MissingExtra, TrainingError
from auris.training.exporting import export_run
from auris.training.loop import TrainingLoop
from auris.training.recipes import AsrRecipe, CtcRecipe
from auris.training.run_options import Sources
from auris.training.score import DevScores
from auris.training.trainer import RecognizerTrainer, Trainer
from tests.training.conftest import broken_off, train_here

MakeCtc = Callable[..., CtcRecipe]
MakeTrainer = Callable[..., Trainer]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_and_follows_its_schedule(tiny: MakeCtc, schedule: str) -> None:
    recipe = tiny(max_steps=110, warmup_steps=10, lr=0.5, schedule=schedule)
    rates = [recipe.learning_rate(step, 110) for step in range(111)]
    assert rates[4] == pytest.approx(0.25)
    assert rates[9] == rates[10] == 0.5
    middle = {"cosine": 0.25, "linear": 0.25, "constant": 0.5}[schedule]
    quarter = {"cosine": 0.4268, "linear": 0.375, "constant": 0.5}[schedule]
    assert rates[60] == pytest.approx(middle)
    assert rates[35] == pytest.approx(quarter, abs=1e-3)
    assert rates[110] == pytest.approx(0.5 if schedule == "constant" else 0.0)


def test_development_sets_are_scored_between_epochs(
    tmp_path: Path, trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path / "whole", eval_steps=2, max_steps=7, checkpoint_steps=100).run()
    whole = rows(tmp_path / "whole" / "log.csv")
    assert [int(row["step"]) for row in whole] == [2, 4, 6, 7]
    assert all(float(row["tones"]) >= 0 and float(row["loss"]) > 0 for row in whole)
    settings = {"eval_steps": 2, "max_steps": 7, "checkpoint_steps": 100}
    cut = tmp_path / "cut"
    broken_off(monkeypatch, 5, lambda: trainer(cut, **settings).run())
    again = trainer(cut, **settings)
    again.resume()
    again.run()
    columns = ("epoch", "step", "loss", "val_loss", "tones")
    logged = [[tuple(row[c] for c in columns) for row in rows(run / "log.csv")]
              for run in (cut, tmp_path / "whole")]  # fmt: skip
    assert logged[0] == logged[1]


def test_a_run_that_ends_while_it_scores_between_epochs_scores_again(
    tmp_path: Path, trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreakOffError(Exception):
        pass

    def broken(*_: Any) -> DevScores:
        raise BreakOffError

    settings = {"eval_steps": 2, "max_steps": 4}
    with monkeypatch.context() as patch:
        patch.setattr(RecognizerTrainer, "_scores", broken)
        with pytest.raises(BreakOffError):
            trainer(tmp_path, **settings).run()
    again = trainer(tmp_path, **settings)
    again.resume()
    assert again.progress.step == 2
    again.run()
    assert [int(row["step"]) for row in rows(tmp_path / "log.csv")] == [2, 4]


def test_a_run_ends_early_where_it_no_longer_improves(
    tmp_path: Path, trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.9, 0.5, 0.6, 0.5, 0.1, 0.1])
    monkeypatch.setattr(
        RecognizerTrainer, "_scores", lambda *_: DevScores({"tones": next(rates)}, 1.0)
    )
    run = trainer(tmp_path, eval_steps=1, patience=2, max_steps=9)
    run.run()
    # An equal result is the best one again, and no improvement.
    assert run.progress.step == 4
    assert [row["tones"] for row in rows(tmp_path / "log.csv")] == [
        "0.9000", "0.5000", "0.6000", "0.5000"]  # fmt: skip
    again = trainer(tmp_path, eval_steps=1, patience=2, max_steps=9)
    again.resume()
    again.run()
    assert again.progress.step == 4


def test_the_moving_average_is_that_of_all_steps(
    tmp_path: Path, trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    step = TrainingLoop.step

    def watched(loop: TrainingLoop, batches: Sequence[Any]) -> float:
        if not seen:
            seen.append({name: p.detach().clone() for name, p in loop.task.named_parameters()})
        loss = step(loop, batches)
        seen.append({name: p.detach().clone() for name, p in loop.task.named_parameters()})
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "step", watched)
        trainer(tmp_path / "whole", ema_decay=0.7, max_steps=5).run()
    stored = load_file(tmp_path / "whole" / "last" / "ema.safetensors")
    for name in seen[0]:
        mean = seen[0][name]
        for later in seen[1:]:
            mean = mean.lerp(later[name], 1.0 - 0.7)
        assert torch.equal(stored[name], mean)
    broken_off(monkeypatch, 3, lambda: trainer(tmp_path / "cut", ema_decay=0.7, max_steps=5).run())
    again = trainer(tmp_path / "cut", ema_decay=0.7, max_steps=5)
    again.resume()
    again.run()
    resumed = load_file(tmp_path / "cut" / "last" / "ema.safetensors")
    assert all(torch.equal(resumed[name], weight) for name, weight in stored.items())


def test_the_moving_average_is_exported(data: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    run = tmp_path / "run"
    train_here(tiny(max_steps=4, ema_decay=0.5), Sources([data]), run, dtype="float32")
    written = {name: load_file(export_run(run, tmp_path / name, name, torch.float32)
                               / "model.safetensors") for name in ("ema", "last")}  # fmt: skip
    model = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(model[name], weight) for name, weight in written["ema"].items())
    assert any(not torch.equal(model[name], weight) for name, weight in written["last"].items())
    with pytest.raises(TrainingError, match="ema_decay has to be 0 with average_over"):
        tiny(ema_decay=0.5, average_over=2)


def test_the_newest_checkpoints_are_kept(data: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    run = tmp_path / "run"
    train_here(tiny(max_steps=7, keep_checkpoints=2, checkpoint_steps=2), Sources([data]), run)
    assert sorted(path.name for path in run.glob("step-*")) == ["step-000004", "step-000006"]
    assert export_run(run, tmp_path / "model", "step-000004").is_dir()
    with pytest.raises(TrainingError, match="step-000006"):
        export_run(run, tmp_path / "other", "step-000002")


def test_a_run_goes_on_for_longer(data: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    run = tmp_path / "run"
    train_here(tiny(max_steps=3), Sources([data]), run)
    resumed = train_here(tiny(max_steps=6), Sources([data]), run, resume=True)
    assert resumed.progress.step == 6
    assert json.loads((run / "recipe.json").read_text())["max_steps"] == 6
    assert [int(row["step"]) for row in rows(run / "steps.csv")] == [1, 2, 3, 4, 5, 6]
    for other in (tiny(max_steps=5), tiny(max_steps=7, lr=0.1)):
        with pytest.raises(TrainingError, match="only max_steps or epochs may be larger"):
            train_here(other, Sources([data]), run, resume=True)


def test_speed_and_utilization_are_logged(data: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    run = tmp_path / "run"
    trained = train_here(tiny(max_steps=4), Sources([data]), run, peak_tflops=1e-3)
    (last, *_) = reversed(rows(run / "log.csv"))
    assert float(last["speed"]) > 0
    assert trained.flops.a_second is not None
    used = trained.flops.a_second * float(last["speed"]) / 1e9
    assert float(last["mfu"]) == pytest.approx(used, rel=0.1, abs=1e-3)
    plain = tmp_path / "plain"
    train_here(tiny(max_steps=4), Sources([data]), plain)
    assert rows(plain / "log.csv")[-1]["mfu"] == "nan"
    # Counting changes no result.
    losses = [[row["loss"] for row in rows(path / "steps.csv")] for path in (run, plain)]
    assert losses[0] == losses[1]


def test_weights_and_biases_receives_the_log(
    data: Path, tmp_path: Path, tiny: MakeCtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    begun: list[dict[str, Any]] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((step, values))

        def finish(self) -> None:
            begun.append({})

    wandb = ModuleType("wandb")
    wandb.init = lambda **given: begun.append(given) or Run()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    sources = Sources([data], dev=[data])
    train_here(tiny(max_steps=2), sources, tmp_path / "run", wandb="speech")
    assert begun[0]["project"] == "speech"
    assert begun[0]["resume"] == "allow"
    assert begun[-1] == {}
    assert {step for step, values in logged if "loss" in values} == {1, 2}
    assert any("error_rate/tones_train" in values for _, values in logged)


def test_weights_and_biases_needs_its_package(
    data: Path, tmp_path: Path, tiny: MakeCtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match="wandb"):
        train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run", wandb="speech")


@pytest.mark.parametrize("kind", ["ctc", "asr"])
def test_gradient_checkpointing_changes_no_bit(
    data: Path, tmp_path: Path, tiny: MakeCtc, tiny_asr: Callable[..., AsrRecipe], kind: str
) -> None:
    """With dropout, whose random numbers are drawn again."""
    make = tiny if kind == "ctc" else tiny_asr
    settings = {"max_steps": 4, "n_layers": 2, "dropout": 0.2}
    saved: list[int] = []
    for run, checkpointing in (("plain", False), ("less", True)):
        recipe = make(gradient_checkpointing=checkpointing, **settings)
        size = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            train_here(recipe, Sources([data]), tmp_path / run)
        saved.append(size)
    first, second = ((tmp_path / run / "last" / "model.safetensors") for run in ("plain", "less"))
    assert first.read_bytes() == second.read_bytes()
    assert saved[1] < saved[0]


def test_gradient_checkpointing_and_compilation_exclude_each_other(tiny: MakeCtc) -> None:
    with pytest.raises(TrainingError, match="gradient_checkpointing has to be false"):
        tiny(use_compile=True, gradient_checkpointing=True, batch_seconds=30)
