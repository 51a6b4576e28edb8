"""The training loop: it learns, resumes bit for bit, and skips invalid steps."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from auris.errors import OutputError, TrainingError
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainingClip
from auris.training.recipes import AsrRecipe, CtcRecipe
from auris.training.reports import CURVE, LOG, STEPS
from auris.training.score import DevScores, Scorer, score
from auris.training.starting import asr_task
from auris.training.state import BEST, LAST, load_weights, save_state
from auris.training.tasks import ctc_loss
from auris.training.trainer import Trainer
from auris.training.units import train_vocabulary
from tests.training.conftest import TEXTS, task_of, trainer_of

MakeRecipe = Callable[..., CtcRecipe]
MakeTrainer = Callable[..., Trainer]


class BreakOffError(Exception):
    pass


def record(trainer: Trainer, stop_after: int | None = None) -> list[float]:
    """Run and collect the loss of every step; optionally stop in the middle."""
    losses: list[float] = []
    inner = trainer.step

    def step(batch: object) -> float:
        if len(losses) == stop_after:
            raise BreakOffError
        losses.append(inner(batch))
        return losses[-1]

    trainer.step = step
    with contextlib.suppress(BreakOffError):
        trainer.run()
    return losses


@pytest.mark.parametrize(("stop", "bf16"), [(3, False), (7, False), (5, True)])
def test_a_resumed_run_has_the_same_losses(
    trainer: MakeTrainer, tmp_path: Path, stop: int, bf16: bool, plots: None
) -> None:
    whole = trainer(tmp_path / "whole", bf16=bf16)
    losses = record(whole)
    assert len(losses) == 9
    assert len(set(losses)) == 9
    broken = record(trainer(tmp_path / "broken", bf16=bf16), stop_after=stop)
    assert broken == losses[:stop]
    resumed = trainer(tmp_path / "broken", bf16=bf16)
    resumed.resume()
    first = resumed.progress.step
    assert 0 < first <= stop
    assert record(resumed) == losses[first:]
    for left, right in zip(whole.task.parameters(), resumed.task.parameters(), strict=True):
        assert torch.equal(left, right)
    for log in (LOG, STEPS):
        logs = [read_log(tmp_path / name / log) for name in ("whole", "broken")]
        for row in (*logs[0], *logs[1]):
            row.pop("seconds")
            row.pop("speed", None)  # Audio a second.
        assert logs[0] == logs[1]
    assert (tmp_path / "broken" / CURVE).stat().st_size > 1000


def read_log(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_not_resumed_with_other_data(
    trainer: MakeTrainer,
    clips: list[TrainingClip],
    tokenizer: Tokenizer,
    tmp_path: Path,
    tiny: MakeRecipe,
) -> None:
    trainer(tmp_path, max_steps=2).run()
    recipe = tiny(max_steps=2)
    other = trainer_of(recipe, task_of(recipe, tokenizer), clips[1:], {}, tmp_path)
    with pytest.raises(TrainingError, match="the data it began with"):
        other.resume()


def test_resuming_without_a_checkpoint_is_refused(trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="checkpoint"):
        trainer(tmp_path).resume()


def test_an_interrupted_write_leaves_the_previous_checkpoint(
    trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer(tmp_path, max_steps=2).run()
    (tmp_path / LAST).rename(tmp_path / (LAST + ".old"))
    again = trainer(tmp_path, max_steps=2)
    again.resume()
    assert again.progress.step == 2


def endless(loss: torch.Tensor) -> torch.Tensor:
    return loss * math.inf


def steep(loss: torch.Tensor) -> torch.Tensor:
    """The same loss with a gradient of NaN."""
    return loss + (loss - loss.detach()).abs().sqrt()


@pytest.mark.parametrize("spoil", [endless, steep])
def test_non_finite_steps_are_skipped_and_counted(
    trainer: MakeTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    calls: list[int] = []

    def sometimes(*args: object) -> torch.Tensor:
        calls.append(1)
        loss = ctc_loss(*args)
        return spoil(loss) if len(calls) == 2 else loss

    monkeypatch.setattr("auris.training.tasks.ctc_loss", sometimes)
    run = trainer(tmp_path, max_steps=4)
    losses = record(run)
    assert [math.isnan(loss) for loss in losses] == [False, True, False, False]
    assert run.progress.skipped == 1
    assert all(torch.isfinite(p).all() for p in run.task.parameters())
    assert read_log(tmp_path / LOG)[-1]["skipped"] == "1"


def test_epochs_count_their_steps(trainer: MakeTrainer, tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=None, epochs=2)
    run.run()
    assert run.progress.epoch == 2
    assert run.progress.step == run.steps
    assert [row["epoch"] for row in read_log(tmp_path / LOG)] == ["1", "2"]


def test_a_run_without_a_length_continues_after_warm_up(
    trainer: MakeTrainer, tmp_path: Path
) -> None:
    ten = trainer(tmp_path, max_steps=None, epochs=10).steps
    lengths = {
        warmup: trainer(tmp_path, max_steps=None, warmup_steps=warmup).steps
        for warmup in (0, 2, ten, 400)
    }
    assert lengths == {0: ten, 2: max(ten, 10), ten: 5 * ten, 400: 2000}
    assert trainer(tmp_path, max_steps=None, epochs=1, warmup_steps=400).steps < ten
    run = trainer(tmp_path, max_steps=None, warmup_steps=ten // 2 + 1)
    run.run()
    assert run.progress.step == run.steps > ten
    assert run.progress.epoch > 10


def test_the_best_epoch_has_the_lowest_error_rate(
    trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.9, 0.2, 0.5])
    monkeypatch.setattr(
        "auris.training.trainer.score", lambda *args: DevScores({"tones": next(rates)})
    )
    trainer(tmp_path, max_steps=None, epochs=3).run()
    kept = json.loads((tmp_path / BEST / "progress.json").read_text())
    assert kept["rates"] == {"tones": 0.2}
    assert kept["epoch"] == 2
    assert json.loads((tmp_path / LAST / "progress.json").read_text())["epoch"] == 3


def test_biases_and_norms_have_no_weight_decay(trainer: MakeTrainer, tmp_path: Path) -> None:
    for group in trainer(tmp_path).optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_training_without_clips_is_refused(
    tokenizer: Tokenizer, tiny: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="No clip can be used"):
        trainer_of(tiny(), task_of(tiny(), tokenizer), [], {}, tmp_path)


@pytest.mark.no_cover
def test_tones_are_learned(
    clips: list[TrainingClip], tokenizer: Tokenizer, tiny: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny(
        max_steps=150,
        lr=0.01,
        warmup_steps=20,
        d_model=32,
        n_layers=2,
        augment_from_epoch=999,
        checkpoint_steps=999,
        dropout=0.0,
        batch_seconds=20.0,
    )
    run = trainer_of(recipe, task_of(recipe, tokenizer), clips, {}, tmp_path)
    run.run()
    assert Scorer(run.task).transcribe(clips) == TEXTS
    scores = score(Scorer(run.task), {"tones": clips})
    assert scores.rates == {"tones": 0.0}
    assert 0 < scores.loss < 0.5
    load_weights(tmp_path / BEST, run.task)


def test_gradients_are_accumulated_over_batches(
    trainer: MakeTrainer,
    tmp_path: Path,
    clips: list[TrainingClip],
    tokenizer: Tokenizer,
    tiny: MakeRecipe,
) -> None:
    run = trainer(tmp_path / "all", max_steps=None, epochs=2, gradient_accumulation_steps=3)
    batches = [len(run._plan(epoch).batches) for epoch in range(2)]
    assert run.steps == sum(math.ceil(count / 3) for count in batches)
    losses = record(run)
    assert run.progress.batches == sum(batches)
    broken = {"max_steps": None, "epochs": 2, "gradient_accumulation_steps": 3}
    record(trainer(tmp_path / "half", **broken), stop_after=3)
    resumed = trainer(tmp_path / "half", **broken)
    resumed.resume()
    first = resumed.progress.step
    assert 0 < first <= 3
    assert record(resumed) == losses[first:]


def test_a_full_disk_leaves_the_previous_checkpoint(
    trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, max_steps=2)
    run.run()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    before = {file.name: file.read_bytes() for file in (tmp_path / LAST).iterdir()}
    monkeypatch.setattr("auris.training.state.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save_state(tmp_path / LAST, run.task, run.optimizer, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / LAST).iterdir()} == before
    assert not (tmp_path / (LAST + ".new")).exists()


@pytest.mark.parametrize(
    "damage",
    [
        "drop",
        "shape",
        "dtype",
        "unknown",
        "not whole",
        "list",
        "step",
        "negative",
        "extra",
        "lacking",
        "{}",
    ],
)
def test_a_damaged_checkpoint_is_refused(trainer: MakeTrainer, tmp_path: Path, damage: str) -> None:
    trainer(tmp_path, max_steps=2).run()
    moments = load_file(tmp_path / LAST / "optimizer.safetensors")
    progress = json.loads((tmp_path / LAST / "progress.json").read_text())
    key = "model.head.weight/exp_avg"
    match damage:
        case "drop":
            del moments[key]
        case "shape":
            moments[key] = moments[key][:3].clone()
        case "dtype":
            moments[key] = moments[key].half()
        case "unknown":
            moments["other/exp_avg"] = moments[key].clone()
        case "list":
            progress = [progress]
        case "step":
            progress["step"] = "2"
        case "negative":
            progress["batch"] = -3
        case "extra":
            progress["more"] = 1
        case "lacking":
            del progress["data"]
        case "{}":
            progress = {}
    save_file(moments, tmp_path / LAST / "optimizer.safetensors")
    (tmp_path / LAST / "progress.json").write_text(
        "{" if damage == "not whole" else json.dumps(progress)
    )
    with pytest.raises(TrainingError, match=r"checkpoint"):
        trainer(tmp_path, max_steps=2).resume()


def test_an_epoch_is_saved_before_it_is_scored(
    trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole")
    losses = record(whole)
    with monkeypatch.context() as patch:
        patch.setattr("auris.training.trainer.score", lambda *args: raise_break_off())
        broken = record(trainer(tmp_path / "broken"))
    assert len(broken) > 1
    resumed = trainer(tmp_path / "broken")
    resumed.resume()
    assert resumed.progress.step == len(broken)  # No step of the epoch is repeated.
    assert record(resumed) == losses[len(broken) :]
    logs = [read_log(tmp_path / name / LOG) for name in ("whole", "broken")]
    assert [row["tones"] for row in logs[0]] == [row["tones"] for row in logs[1]]
    assert [row["val_loss"] for row in logs[0]] == [row["val_loss"] for row in logs[1]]


def raise_break_off() -> None:
    raise BreakOffError


def test_the_last_epoch_is_scored_after_an_interruption(
    trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("auris.training.trainer.score", lambda *args: raise_break_off())
        record(trainer(tmp_path, max_steps=2))
    assert not (tmp_path / BEST).exists()
    resumed = trainer(tmp_path, max_steps=2)
    resumed.resume()
    assert record(resumed) == []
    assert [row["epoch"] for row in read_log(tmp_path / LOG)] == ["1"]
    assert (tmp_path / BEST).is_dir()


def test_a_decoder_that_is_never_trained_is_refused(
    tiny_asr: Callable[..., AsrRecipe], clips: list[TrainingClip], tmp_path: Path
) -> None:
    recipe = tiny_asr(max_steps=None, epochs=1, decoder_from_step=1000)
    tokenizer = train_vocabulary(TEXTS * 9, 260)
    task = asr_task(recipe, tokenizer)
    with pytest.raises(TrainingError, match="decoder has to be trained before the run ends"):
        trainer_of(recipe, task, clips, {}, tmp_path)


def test_a_nan_loss_in_the_first_epoch_leaves_a_best_checkpoint(
    clips: list[TrainingClip],
    tokenizer: Tokenizer,
    tiny: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("auris.training.tasks.ctc_loss", lambda *args: endless(ctc_loss(*args)))
    recipe = tiny(max_steps=None, epochs=1)
    run = trainer_of(recipe, task_of(recipe, tokenizer), clips, {}, tmp_path)
    with pytest.raises(TrainingError, match="at least one step whose loss is a number"):
        run.run()
    assert run.progress.skipped == run.steps
    assert (tmp_path / BEST).is_dir()
    assert run.progress.best is None


def test_checkpoints_with_former_parameter_names_are_read(
    trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer(tmp_path, max_steps=2).run()
    path = tmp_path / LAST / "progress.json"
    progress = json.loads(path.read_text())
    progress["heard"], progress["whole"] = progress.pop("batches"), progress.pop("all_parts")
    path.write_text(json.dumps(progress))
    again = trainer(tmp_path, max_steps=2)
    again.resume()
    assert (again.progress.batches, again.progress.all_parts) == (2, True)
