"""The training loop: plain torch, exactly resumable.

Everything random in a step follows from the seed and the step's number, so a run that was
interrupted and resumed computes the same losses, bit for bit, as one that was not.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from auris.errors import TrainingError
from auris.models.aut_ctc import AutCtc
from auris.training.data import Clip
from auris.training.examples import Batch, EpochPlan, dropout_seed, load_batches, plan_epoch
from auris.training.losses import ctc_loss
from auris.training.recipes import Recipe
from auris.training.score import error_rates
from auris.training.state import load_state, save_state

__all__ = ["BEST", "LAST", "LOG", "Progress", "Trainer", "new_model"]

LAST, BEST, LOG = "last", "best", "log.csv"


def new_model(recipe: Recipe) -> AutCtc:
    """A model with fresh weights; the seed alone decides them."""
    torch.manual_seed(recipe.seed)
    return AutCtc(recipe.model_config())


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed, since their size is no measure of complexity."""
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.wd},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch, batch, step: the next epoch and batch of it, and the steps done, all from 0.
        losses: losses of the epoch so far.
        skipped: steps of the run whose loss or gradient was not finite.
        best: lowest mean word error rate so far (or loss, without development sets).
        data: fingerprint of the clips.
        seconds: time spent in the epoch so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    best: float | None = None
    data: list[int] = field(default_factory=list)
    seconds: float = 0.0


class Trainer:
    """One run over clips in memory.

    Args:
        clips: training clips with units.
        dev: development clips by the name of their set.
        out: the run's folder; checkpoints and the log are written there.
        report: called with a line of text for every epoch and every `report_steps`.
        workers: processes that prepare batches ahead, see `load_batches`.
    """

    report_steps = 50

    def __init__(
        self,
        recipe: Recipe,
        clips: Sequence[Clip],
        dev: Mapping[str, Sequence[Clip]],
        tokenizer: Tokenizer,
        out: Path,
        report: Callable[[str], None] = print,
        workers: int = 0,
    ) -> None:
        if not clips:
            raise TrainingError(
                "training needs at least one usable clip", "there is none", "see the data report"
            )
        self.recipe, self.clips, self.dev = recipe, clips, dev
        self.tokenizer, self.out, self.report = tokenizer, out, report
        self.workers = workers
        self.model = new_model(recipe)
        self.optimizer = _optimizer(self.model, recipe)
        self.progress = Progress(data=self._fingerprint())
        self.steps = self._count_steps()

    def _fingerprint(self) -> list[int]:
        units = sum(len(clip.ids) for clip in self.clips)
        return [len(self.clips), sum(len(clip.samples) for clip in self.clips), units]

    def _count_steps(self) -> int:
        if self.recipe.max_steps is not None:
            return self.recipe.max_steps
        epochs = range(self.recipe.epochs or 0)
        return sum(len(self._plan(epoch).batches) for epoch in epochs)

    def _plan(self, epoch: int) -> EpochPlan:
        return plan_epoch(self.clips, self.recipe, epoch)

    def resume(self) -> None:
        """Continue from the last checkpoint of the run's folder.

        Raises:
            TrainingError: there is none, or the data are not those of the run.
        """
        progress = Progress(**load_state(self.out / LAST, self.model, self.optimizer))
        if progress.data != self.progress.data:
            raise TrainingError(
                "a run is resumed with the data it began with",
                f"clips, samples and units are {self.progress.data}, not {progress.data}",
                "give the same manifests, or start a new run",
            )
        self.progress = progress

    def run(self) -> None:
        """Train to the end of the recipe."""
        while self.progress.step < self.steps:
            self._epoch()

    def _epoch(self) -> None:
        progress = self.progress
        plan = self._plan(progress.epoch)
        config = self.model.config
        started = time.perf_counter()
        for batch in load_batches(
            self.clips, self.recipe, config, plan, progress.batch, self.workers
        ):
            progress.losses.append(self.step(batch))
            progress.batch += 1
            progress.step += 1
            now = time.perf_counter()
            progress.seconds += now - started
            started = now
            if progress.step % self.report_steps == 0:
                self._report_step(len(plan.batches))
            if progress.step % self.recipe.checkpoint_steps == 0:
                save_state(self.out / LAST, self.model, self.optimizer, asdict(progress))
            if progress.step == self.steps:
                break
        self._end_epoch()

    def step(self, batch: Batch) -> float:
        """One update; the loss per unit, which is not finite when the update was skipped."""
        step, recipe = self.progress.step, self.recipe
        self.model.train()
        torch.manual_seed(dropout_seed(recipe.seed, step))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, self.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            logits, lengths = self.model(batch.mels)
        loss = ctc_loss(logits, lengths, batch.targets, self.model.config.blank)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
        if not bool(loss.isfinite() and norm.isfinite()):
            self.progress.skipped += 1
            return math.nan
        self.optimizer.step()
        return float(loss.detach())

    def _mean_loss(self, last: int | None = None) -> float:
        losses = self.progress.losses[-last:] if last else self.progress.losses
        finite = [loss for loss in losses if math.isfinite(loss)]
        return math.fsum(finite) / len(finite) if finite else math.nan

    def _report_step(self, batches: int) -> None:
        progress = self.progress
        self.report(
            f"epoch {progress.epoch + 1} batch {progress.batch}/{batches} "
            f"step {progress.step}/{self.steps} loss {self._mean_loss(self.report_steps):.4f} "
            f"{progress.seconds / max(1, progress.batch):.3f} s a step"
        )

    def _end_epoch(self) -> None:
        progress = self.progress
        loss = self._mean_loss()
        rates = error_rates(self.model, self.tokenizer, self.dev, self.recipe.bf16)
        score = sum(rates.values()) / len(rates) if rates else loss
        self._log(loss, rates)
        better = progress.best is None or score < progress.best
        if better:
            progress.best = score
        progress.epoch, progress.batch, progress.losses, progress.seconds = (
            progress.epoch + 1,
            0,
            [],
            0.0,
        )
        if better:
            save_state(self.out / BEST, self.model, None, {"rates": rates, **asdict(progress)})
        save_state(self.out / LAST, self.model, self.optimizer, asdict(progress))

    def _log(self, loss: float, rates: Mapping[str, float]) -> None:
        progress = self.progress
        row: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "lr": f"{self.recipe.learning_rate(progress.step - 1, self.steps):.3e}",
            "loss": f"{loss:.4f}",
            "skipped": progress.skipped,
            "seconds": f"{progress.seconds:.1f}",
            **{name: f"{rate:.4f}" for name, rate in rates.items()},
        }
        path = self.out / LOG
        fresh = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        self.report(" ".join(f"{name} {value}" for name, value in row.items()))
