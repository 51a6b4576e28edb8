"""Reports of a run: lines with the time left, a progress bar, logs and a plot."""

from __future__ import annotations

import builtins
import csv
import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from auris.errors import OutputError, TrainingError
from auris.training import reports
from auris.training.reports import CURVE, LOG, STEPS, BarReporter, LineReporter, RunLogger, draw
from auris.training.score import DevScores
from auris.training.state import TrainingProgress
from tests.training.conftest import quiet

pytestmark = pytest.mark.usefixtures("plots")


def write_run(out: Path, epochs: int = 3, steps: int = 4) -> RunLogger:
    logger = RunLogger(out, quiet())
    with logger.open(0, epochs * steps):
        for epoch in range(epochs):
            for step in range(steps):
                loss = math.nan if step == 1 else 5.0 / (1 + epoch)
                done = TrainingProgress(epoch=epoch, step=epoch * steps + step + 1)
                logger.step(done, loss, 1e-3, 0.1)
            progress = TrainingProgress(
                epoch=epoch, step=(epoch + 1) * steps, losses=[1.0], skipped=1, seconds=2.0
            )
            logger.epoch(progress, 1e-3, DevScores({"fsdd": 0.5 / (1 + epoch)}, 1.5), math.nan)
    return logger


def column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_run_leaves_logs_and_a_plot(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert column(tmp_path / STEPS, "step") == [str(n) for n in range(1, 13)]
    assert column(tmp_path / LOG, "fsdd") == ["0.5000", "0.2500", "0.1667"]
    assert column(tmp_path / LOG, "val_loss") == ["1.5000"] * 3
    assert (tmp_path / CURVE).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_values_that_are_not_known_are_not_shown(tmp_path: Path) -> None:
    lines: list[str] = []
    logger = RunLogger(tmp_path, LineReporter(lines.append))
    progress = TrainingProgress(step=4, losses=[math.nan], seconds=2.0)
    logger.epoch(progress, 1e-3, DevScores({}, math.nan), math.nan)
    logger.epoch(progress, 1e-3, DevScores({}, 0.5), 0.25)
    assert " loss nan " in lines[0]
    assert "mfu" not in lines[0]
    assert "val_loss" not in lines[0]
    assert "val_loss 0.5000" in lines[1]
    assert "mfu 0.2500" in lines[1]


def test_logs_are_truncated_to_the_checkpoint_on_resume(tmp_path: Path) -> None:
    logger = write_run(tmp_path)
    with pytest.raises(TrainingError, match="development sets it began with"):
        logger.rewind(TrainingProgress(step=6, epoch=1), ["fsdd", "more"])
    logger.rewind(TrainingProgress(step=6, epoch=1), ["fsdd"])
    assert column(tmp_path / STEPS, "step") == [str(n) for n in range(1, 7)]
    assert column(tmp_path / LOG, "epoch") == ["1"]
    logger.rewind(TrainingProgress(), ["fsdd"])
    assert not (tmp_path / STEPS).exists()


def test_logs_without_a_validation_loss_are_continued(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(
        "epoch,step,lr,loss,skipped,seconds,fsdd\n1,4,1e-3,2.0,0,1.0,0.5\n2,8,1e-3,1.0,0,1.0,0.4\n"
    )
    logger = RunLogger(tmp_path, quiet())
    logger.rewind(TrainingProgress(step=4, epoch=1), ["fsdd"])
    progress = TrainingProgress(epoch=1, step=8, losses=[1.0])
    logger.epoch(progress, 1e-3, DevScores({"fsdd": 0.3}, 0.9), math.nan)
    assert column(tmp_path / LOG, "val_loss") == ["nan", "0.9000"]
    assert column(tmp_path / LOG, "fsdd") == ["0.5", "0.3000"]


def test_lines_show_the_mean_loss_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 60.0])
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    told: list[str] = []
    lines = LineReporter(told.append, every=2)
    lines.start(0, 7204)
    for done, loss in enumerate([2.0, 4.0, math.nan, 1.0], 1):
        lines.step(done, loss)
    assert told == [
        "step 2/7204 loss 3.0000 10.000 s a step, 20:00:20 left",
        "step 4/7204 loss 1.0000 15.000 s a step, 30:00:00 left",
    ]


def test_a_bar_shows_loss_and_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=90)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    monkeypatch.setattr("rich.console.Console", lambda: console)
    bar = BarReporter()
    bar.message("38 clips [not markup]")
    bar.start(5, 10)
    bar.step(6, 1.25)
    bar.message("epoch 1")
    bar.finish()
    text = shown.getvalue()
    for wanted in ("38 clips [not markup]", "6/10", "loss 1.2500", "epoch 1"):
        assert wanted in text


@pytest.mark.parametrize("absent", ["matplotlib", "tensorboard"])
def test_reports_without_optional_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith((absent, f"torch.utils.{absent}")):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    write_run(tmp_path)
    assert (tmp_path / CURVE).exists() == (absent != "matplotlib")
    assert (tmp_path / "tensorboard").exists() == (absent != "tensorboard")
    assert (tmp_path / STEPS).exists()


def test_logs_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    logger = write_run(tmp_path)
    (tmp_path / STEPS).unlink()
    (tmp_path / STEPS).mkdir()
    with pytest.raises(OutputError, match="logs of a run"):
        logger.step(TrainingProgress(step=1), 1.0, 1e-3, 0.1)


def test_an_empty_run_has_a_plot(tmp_path: Path) -> None:
    assert draw(tmp_path) == tmp_path / CURVE
