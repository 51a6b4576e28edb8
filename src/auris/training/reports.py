"""Progress of a run: lines or a bar, log files, TensorBoard, and a plot."""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from auris.errors import MissingExtra, OutputError, TrainingError
from auris.training.score import DevScores
from auris.training.state import TrainingProgress, finite_mean

LOG, STEPS, CURVE, TENSORBOARD = "log.csv", "steps.csv", "curve.png", "tensorboard"
"""Files of a run: a line an epoch, a line a step, the plot of both, and TensorBoard's folder."""

SKIPPED = "skipped"
"""Folder of a run with the rows of a corpus that were left out."""

EPOCH_COLUMNS = ("epoch", "step", "lr", "loss", "val_loss", "skipped", "seconds", "speed", "mfu")
"""Columns of log.csv, before those of the development sets."""

STEP_COLUMNS = ("step", "epoch", "loss", "lr", "seconds")
"""Columns of steps.csv."""

SECONDS_BETWEEN_PLOTS = 20.0


class ProgressReporter(Protocol):
    """Shows the progress of a run."""

    def message(self, line: str) -> None:
        """Show a line of text."""

    def start(self, done: int, steps: int) -> None:
        """Begin at `done` of `steps`."""

    def step(self, done: int, loss: float) -> None:
        """Show that one more step is done."""

    def finish(self) -> None:
        """End the display."""
        return


class LineReporter(ProgressReporter):
    """Writes a line after every `every` steps, with the time left; for files and pipes."""

    def __init__(self, write: Callable[[str], None] = print, every: int = 50) -> None:
        self._write = write
        self.every = every
        self._losses: list[float] = []

    def message(self, line: str) -> None:
        self._write(line)

    def start(self, done: int, steps: int) -> None:
        self._first, self._steps, self._started = done, steps, time.monotonic()

    def step(self, done: int, loss: float) -> None:
        self._losses.append(loss)
        if done % self.every:
            return
        pace = (time.monotonic() - self._started) / (done - self._first)
        minutes, seconds = divmod(int(pace * (self._steps - done)), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        mean = finite_mean(self._losses)
        self._write(f"step {done}/{self._steps} loss {mean:.4f} {pace:.3f} s a step, {left} left")
        self._losses.clear()


class BarReporter(ProgressReporter):
    """A progress bar with the loss and the time left; for terminals."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), "{task.description}", TimeRemainingColumn())
        self._bar = Progress(*columns)

    def start(self, done: int, steps: int) -> None:
        self._task = self._bar.add_task("", total=steps, completed=done)
        self._bar.start()

    def message(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, done: int, loss: float) -> None:
        self._bar.update(self._task, completed=done, description=f"loss {loss:.4f}")

    def finish(self) -> None:
        self._bar.stop()


def wandb_module() -> Any:
    """The module wandb, or MissingExtra."""
    try:
        import wandb
    except ImportError as error:
        raise MissingExtra(
            "Weights & Biases needs the extra wandb",
            "the package wandb is not installed",
            "run pip install 'auris-asr[wandb]', or leave --wandb out",
        ) from error
    return wandb


def start_wandb(project: str, out: Path) -> Any:
    """The run of Weights & Biases for a run's folder; it is continued where it has begun."""
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    return wandb_module().init(project=project, name=out.name, id=name, dir=out, resume="allow")


class RunLogger:
    """The logs of a run in its folder `out`.

    Args:
        project: of Weights & Biases, where values are sent, too.
    """

    def __init__(self, out: Path, reporter: ProgressReporter, project: str | None = None) -> None:
        self.out = out
        self.reporter = reporter
        self._project = project
        self._board: Any = None
        self._wandb: Any = None
        self._drawn = -math.inf

    @contextmanager
    def open(self, done: int, steps: int) -> Iterator[None]:
        """Show and log the steps after `done` inside the block."""
        with suppress(ImportError):  # Without tensorboard there are no events.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.out / TENSORBOARD), purge_step=done + 1)
        if self._project is not None:
            self._wandb = start_wandb(self._project, self.out)
        self.reporter.start(done, steps)
        try:
            yield
            draw(self.out)
        finally:
            self.reporter.finish()
            if self._board is not None:
                self._board.close()
            if self._wandb is not None:
                self._wandb.finish()

    def rewind(self, progress: TrainingProgress, sets: Sequence[str]) -> None:
        """Remove what was logged after a checkpoint.

        Raises:
            TrainingError: other development sets than `sets` were logged.
        """
        rows = _rows(self.out / LOG)
        logged = _sets(rows)
        if rows and logged != list(sets):
            raise TrainingError(
                "A run is resumed with the development sets it began with",
                f"these were {', '.join(logged) or 'none'}, not {', '.join(sets) or 'none'}",
                "give the same --dev files in the same order",
            )
        steps, epochs, scored = progress.step, progress.epoch, progress.scored
        _cut(self.out / STEPS, lambda row: int(row["step"]) <= steps, STEP_COLUMNS)
        _cut(
            self.out / LOG,
            lambda row: int(row["epoch"]) <= epochs or int(row["step"]) <= scored,
            (*EPOCH_COLUMNS, *sets),
        )

    def step(self, progress: TrainingProgress, loss: float, lr: float, seconds: float) -> None:
        """The step that has ended."""
        step = progress.step
        row = {"step": step, "epoch": progress.epoch + 1, "loss": f"{loss:.5f}"}
        self._append(STEPS, {**row, "lr": f"{lr:.3e}", "seconds": f"{seconds:.3f}"})
        self._show(step, {"loss": loss, "lr": lr, "audio_seconds_a_second": progress.speed})
        self.reporter.step(step, loss)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        """Values for TensorBoard and Weights & Biases."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def epoch(
        self, progress: TrainingProgress, lr: float, scores: DevScores, utilization: float
    ) -> None:
        """The steps since the last scoring, and the scores after them.

        Args:
            utilization: share of the arithmetic of the devices that was used, or not a number.
        """
        rates = scores.rates
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "lr": f"{lr:.3e}",
            "loss": f"{progress.loss:.4f}",
            "val_loss": f"{scores.loss:.4f}",
            "skipped": progress.skipped,
            "seconds": f"{progress.seconds:.1f}",
            "speed": f"{progress.speed:.1f}",
            "mfu": f"{utilization:.4f}",
            **{name: f"{rate:.4f}" for name, rate in rates.items()},
        }
        self._append(LOG, row)
        shown = {f"error_rate/{name}": rate for name, rate in rates.items()}
        measured = {"val_loss": scores.loss, "mfu": utilization}
        shown |= {name: value for name, value in measured.items() if math.isfinite(value)}
        self._show(progress.step, shown)
        unknown = {name for name, value in measured.items() if math.isnan(value)}
        known = {name: value for name, value in row.items() if name not in unknown}
        self.reporter.message(" ".join(f"{name} {value}" for name, value in known.items()))
        now = time.monotonic()
        if now - self._drawn > SECONDS_BETWEEN_PLOTS:  # Toy runs have many epochs a second.
            self._drawn = now
            draw(self.out)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        path = self.out / name
        fresh = not path.exists()
        with appending(path) as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)


@contextmanager
def appending(path: Path) -> Iterator[IO[str]]:
    """A log of a run, open to append rows of CSV; OutputError where it cannot be written."""
    try:
        with open(path, "a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except OSError as error:
        raise OutputError(
            "The logs of a run have to be writable",
            f"{path}: {error}",
            "make room, then resume the run",
        ) from error


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log, without those that were cut off while they were written."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if all(map(_is_number, row.values()))]


def _is_number(cell: str | None) -> bool:
    try:
        float(cell or "")
    except ValueError:
        return False
    return True


def _sets(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The development sets that a log has columns for."""
    return [name for name in rows[0] if name not in EPOCH_COLUMNS] if rows else []


def _cut(path: Path, stays: Callable[[dict[str, str]], bool], columns: Sequence[str]) -> None:
    """Keep the rows of a log that stay; a column that the log lacks becomes "nan"."""
    rows = [row for row in _rows(path) if stays(row)]
    if not rows:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="nan")
        writer.writeheader()
        writer.writerows(rows)
    fresh.replace(path)


def draw(out: Path) -> Path | None:
    """Plot a run as curve.png; its path, or None where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = _rows(out / STEPS)
    losses = [float(row["loss"]) for row in steps]
    numbers = [int(row["step"]) for row in steps]
    above.plot(numbers, losses, color="0.85", linewidth=0.5)
    above.plot(numbers, _smooth(losses), color="C0", label="training")
    epochs = _rows(out / LOG)
    validation = [float(row.get("val_loss", "nan")) for row in epochs]
    at = [int(row["step"]) for row in epochs]
    if any(map(math.isfinite, validation)):
        above.plot(at, validation, color="C1", marker="o", label="validation")
        above.legend(loc="upper right")
    above.set_ylabel("loss")
    above.set_yscale("log")
    for name in _sets(epochs):
        below.plot(at, [100 * float(row[name]) for row in epochs], marker="o", label=name)
    below.set_ylabel("error rate, %")
    below.set_xlabel("step")
    below.set_ylim(0, 105)
    if below.has_data():
        below.legend(loc="upper right", ncols=2)
    figure.savefig(out / CURVE, dpi=110)
    return out / CURVE


def _smooth(values: Sequence[float], keep: float = 0.98) -> list[float]:
    """An exponential mean that starts at the first value and skips what is not finite."""
    smoothed: list[float] = []
    for value in values:
        before = smoothed[-1] if smoothed else value
        smoothed.append(keep * before + (1 - keep) * value if math.isfinite(value) else before)
    return smoothed
