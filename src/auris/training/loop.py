"""The training loop: Lightning Fabric around plain torch, exactly resumable.

All random numbers of a step depend on the seed and the number of the batch alone, so a resumed run
computes the same losses, bit for bit, as an uninterrupted one: on a CPU, with as many processes and
threads. (Some of CUDA's backward kernels add in no fixed order.) Processes share the examples of
every batch and divide by the units of the whole batch, so that several compute the same losses as
one, up to the order of floating-point sums (and to dropout, whose masks differ).
"""

from __future__ import annotations

import gc
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from auris.errors import TrainingError, TrainingStopped
from auris.training.base_recipe import Recipe
from auris.training.data import TrainingClip
from auris.training.examples import DataShard, TrainingBatch, dropout_seed
from auris.training.reports import RunLogger
from auris.training.score import DevScores
from auris.training.state import (
    AVERAGE,
    BEST,
    LAST,
    MovingAverage,
    TrainingProgress,
    load_state,
    save_state,
    update_average,
)
from auris.training.step_checkpoints import copy_checkpoint
from auris.training.stopping import StopSignals
from auris.training.tasks import Losses, TrainedModel
from auris.training.throughput import FlopMeter, audio_seconds

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def _optimizer(task: TrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW without weight decay of biases and norms; groups know their share of the rate."""
    groups: list[dict[str, Any]] = []
    named = [(name, p) for name, p in task.named_parameters() if p.requires_grad]
    for share in sorted({task.rate_share(name) for name, _ in named}, reverse=True):
        shared = [p for name, p in named if task.rate_share(name) == share]
        for weights, decay in ((True, recipe.wd), (False, 0.0)):
            chosen = [p for p in shared if (p.ndim > 1) == weights]
            groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)


@dataclass(frozen=True)
class LoopParts:
    """What every loop needs besides its training data."""

    recipe: Recipe
    task: TrainedModel
    dev: Mapping[str, Sequence[TrainingClip]]
    """Development clips by the name of their set."""
    out: Path
    """The run's folder, for checkpoints."""
    logger: RunLogger
    fabric: Fabric
    """The processes and the device, launched."""


class TrainingLoop(ABC):
    """One run; subclasses say what its batches and scores are."""

    def __init__(self, parts: LoopParts) -> None:
        self.recipe, self.task, self.dev = parts.recipe, parts.task, parts.dev
        self.out, self.logger, self.fabric = parts.out, parts.logger, parts.fabric
        recipe, task, fabric = parts.recipe, parts.task, parts.fabric
        self.shard = DataShard(fabric.global_rank, fabric.world_size)
        self.progress = TrainingProgress(data=self._fingerprint())
        self.signals = StopSignals(announce=self._leads)
        self.steps = self._count_steps()
        if not task.trains_all_parts(self.steps - 1):
            raise TrainingError(
                "The decoder has to be trained before the run ends",
                f"decoder_from_step is not below the {self.steps} steps of the run",
                "lower decoder_from_step, or train for longer",
            )
        self._average = MovingAverage(task, recipe.ema_decay) if recipe.ema_decay else None
        self.flops = FlopMeter(task)
        self._stopping = False
        self._wrapped, self.optimizer = fabric.setup(task, _optimizer(task, recipe))

    @property
    def _leads(self) -> bool:
        return self.fabric.global_rank == 0

    @abstractmethod
    def _fingerprint(self) -> str:
        """A hash of the training data."""

    @abstractmethod
    def _count_steps(self) -> int:
        """Steps of the run."""

    @abstractmethod
    def _batches(self, epoch: int, first: int) -> Generator[TrainingBatch, None, None]:
        """The batches of an epoch from batch `first` on."""

    @abstractmethod
    def _scores(self, all_parts: bool) -> DevScores:
        """Scores of the development sets; `all_parts` as of `TrainedModel.forward`."""

    def _prepare_progress(self) -> None:
        """Bring `progress` up to date before a checkpoint is written; called in all processes."""
        return

    def resume(self) -> None:
        """Continue from the last checkpoint of the run's folder.

        Raises:
            TrainingError: there is none, or the data are not those of the run.
        """
        progress = load_state(self.out / LAST, self.task, self.optimizer)
        if progress.data != self.progress.data:
            raise TrainingError(
                "A run is resumed with the data it began with",
                "clips, their order or their texts differ",
                "give the same manifests in the same order, or start a new run",
            )
        self.progress = progress
        if self._average is not None:
            self._average.load(self.out / LAST)
        if self._leads:
            self.logger.rewind(progress, list(self.dev))

    def run(self) -> None:
        """Train to the end of the recipe.

        Raises:
            TrainingStopped: a signal ended the run; a checkpoint was written.
        """
        opened = self.logger.open(self.progress.step, self.steps) if self._leads else nullcontext()
        with opened, self.signals.handled():
            if self.progress.step == 0:
                self._save(LAST)  # So that a run can be resumed whenever it breaks off.
            while not self._has_ended() and (
                self.progress.step < self.steps or self.progress.batch
            ):
                self._train_epoch()
                self._end_epoch()

    def release(self) -> None:
        """Free gradients, the state of the optimizer and the moving average. No step can follow."""
        self.optimizer.zero_grad()
        self.optimizer.state.clear()
        self._average = None

    def close(self) -> None:
        """Release the wrapper that averages gradients, so that `auris.training.processes.leave` is
        the last to refer to the group of processes. No step can follow."""
        del self._wrapped
        gc.collect()

    def _has_ended(self) -> bool:
        """Whether the scores have not improved for too long."""
        return 0 < self.recipe.patience <= self.progress.unimproved

    def _train_epoch(self) -> None:
        progress, recipe = self.progress, self.recipe
        self._score_if_due()
        if progress.step == self.steps or self._has_ended():
            return
        # Closed at once, since workers that live until the interpreter exits are not ended.
        with closing(self._batches(progress.epoch, progress.batch)) as loaded:
            started = time.perf_counter()
            while batches := list(islice(loaded, recipe.gradient_accumulation_steps)):
                loss = self.step(batches)
                progress.losses.append(loss)
                progress.batch += len(batches)
                progress.batches += len(batches)
                progress.step += 1
                now = time.perf_counter()
                progress.seconds += now - started
                if self._leads:
                    rate = recipe.learning_rate(progress.step - 1, self.steps)
                    self.logger.step(progress, loss, rate, now - started)
                started = now
                if progress.step % recipe.checkpoint_steps == 0:
                    self._checkpoint()
                if self._signalled():
                    self._stop_if_signalled(save=True)
                if progress.step == self.steps:
                    break
                if self._score_if_due():
                    started = time.perf_counter()
                    if self._has_ended():
                        break

    def _checkpoint(self) -> None:
        recipe, step = self.recipe, self.progress.step
        if recipe.average_over and self._leads:
            update_average(self.out / AVERAGE, self.task, recipe.average_over, step)
        self._save(LAST)
        if recipe.keep_checkpoints and self._leads:
            copy_checkpoint(self.out, step, recipe.keep_checkpoints)

    def _signalled(self) -> bool:
        """Whether a process has received a signal; the same answer in all processes."""
        return self._stopping if self.shard.of > 1 else self.signals.received > 0

    def _stop_if_signalled(self, save: bool = False) -> None:
        """Raise TrainingStopped in every process where one has received a signal."""
        received = torch.tensor(self.signals.received, device=self.fabric.device)
        number = int(self._over_all(received, "max"))
        if not number:
            return
        if save:
            self._save(LAST)
        stopped = TrainingStopped(
            f"Signal {number} stopped the run after step {self.progress.step} of {self.steps}",
            "",
            "run the same command with --resume to continue from there",
        )
        stopped.exit_code = 128 + number
        raise stopped

    def step(self, batches: Sequence[TrainingBatch]) -> float:
        """One update; the loss per unit, which is not finite when the update was skipped."""
        step, recipe, fabric = self.progress.step, self.recipe, self.fabric
        self._wrapped.train()
        self.task.begin_step(step)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, self.steps) * group["share"]
        self.optimizer.zero_grad()
        losses = []
        for index, batch in enumerate(batches):
            number = self.progress.batches + index
            torch.manual_seed(dropout_seed(recipe.seed, number, self.shard.rank))
            last = index == len(batches) - 1
            with fabric.no_backward_sync(self._wrapped, enabled=not last):
                losses.append(self._backward(batch, 1.0 / len(batches)))
        norm = fabric.clip_gradients(
            self._wrapped,
            self.optimizer,
            max_norm=recipe.max_grad_norm,
            error_if_nonfinite=False,
        )
        loss, finite = self._collect(batches, losses, norm)
        if not finite:
            self.progress.skipped += 1
            return math.nan
        self.optimizer.step()
        if self._average is not None:
            self._average.update(self.task)
        return loss

    def _backward(self, batch: TrainingBatch, weight: float) -> Tensor:
        """Gradients of one batch; the share of this process in its loss."""
        all_parts = self.task.trains_all_parts(self.progress.step)
        with self.flops.counted(batch):
            sums, counts = self._wrapped(batch.to(self.fabric.device), all_parts)
        if not batch.counted:
            sums, counts = 0.0 * sums, 0.0 * counts
        given = Losses(sums, self._over_all(counts.detach()))
        # Gradients are averaged over the processes, and the loss is a sum over them.
        self.fabric.backward(given.total * (weight * self.shard.of))
        return given.total.detach()

    def _collect(
        self, batches: Sequence[TrainingBatch], losses: Iterable[Tensor], norm: Any
    ) -> tuple[float, bool]:
        """The loss of a step over all processes, and whether it and the gradients are finite.

        The host waits for the device once, and also learns of signals and of the audio.
        """
        shown = torch.stack([*losses])
        own = shown.new_tensor([self.signals.received, sum(map(audio_seconds, batches))])
        values = self._over_all(torch.cat([shown, own]))
        if norm is not None:
            values = torch.cat([values, norm.detach().reshape(1).to(values)])
        totals = values.tolist()
        weight, count = 1.0 / len(batches), len(batches)
        loss = sum(weight * total for total in totals[:count])
        self._stopping = totals[count] > 0
        self.progress.audio_seconds += totals[count + 1]
        return loss, all(map(math.isfinite, (loss, *totals[count + 2 :])))

    def _over_all(self, values: Tensor, operation: str = "sum") -> Tensor:
        if self.shard.of == 1:
            return values
        total = self.fabric.all_reduce(values, reduce_op=operation)
        assert isinstance(total, Tensor)
        return total

    def _save(self, name: str, **scores: Any) -> None:
        if name == LAST:
            self._prepare_progress()
        if self._leads:
            last = name == LAST
            optimizer = self.optimizer if last else None
            average = self._average.weights if last and self._average is not None else None
            progress = {**scores, **asdict(self.progress)}
            save_state(self.out / name, self.task, optimizer, progress, average)

    def _score_if_due(self) -> bool:
        """Score in the middle of an epoch where the recipe says so."""
        every, progress = self.recipe.eval_steps, self.progress
        due = every is not None and progress.step % every == 0 and progress.scored < progress.step
        if due and progress.step < self.steps:
            self._score(ends_epoch=False)
            return True
        return False

    def _end_epoch(self) -> None:
        """Score the epoch where the recipe says so, and at the end of the run."""
        progress = self.progress
        over = progress.step == self.steps or self._has_ended()
        if progress.scored < progress.step and (over or self.recipe.eval_steps is None):
            self._score(ends_epoch=True)
        else:
            progress.next_epoch()
            self._save(LAST)

    def _score(self, ends_epoch: bool) -> None:
        """Score the development sets, and write checkpoints.

        The steps before are saved first, so that a run that ends during the scoring, which takes
        long, is resumed with the scoring.
        """
        progress = self.progress
        if self.dev:
            self._save(LAST)
        all_parts = self.task.trains_all_parts(progress.step - 1)
        scores = self._scores(all_parts)
        if self._leads:
            rate = self.recipe.learning_rate(progress.step - 1, self.steps)
            used = self.flops.utilization(progress.speed / self.shard.of)
            self.logger.epoch(progress, rate, scores, used)
        better = self._is_better(scores.mean if self.dev else progress.loss, all_parts)
        losses = progress.losses
        progress.next_period()
        if ends_epoch:
            progress.next_epoch()
        # Also after a first epoch without any finite loss, so that there is something to export.
        if better or not (self.out / BEST).exists():
            self._save(BEST, rates=scores.rates)
        self._save(LAST)
        self.fabric.barrier()
        if not any(map(math.isfinite, losses)):
            raise TrainingError(
                "An epoch needs at least one step whose loss is a number",
                f"none of {len(losses)} was",
                "lower lr, or look at the weights and data it began with",
            )
        if self._has_ended() and self._leads:
            self.logger.reporter.message(
                f"stopped: {progress.unimproved} scorings in a row were no better"
            )

    def _is_better(self, result: float, all_parts: bool) -> bool:
        """Whether a result is the best one so far; it is recorded then."""
        progress = self.progress
        if progress.all_parts != all_parts:
            # The error rate of a part of the model cannot be compared with that of the whole.
            progress.all_parts, progress.best = all_parts, None
        better = not math.isnan(result) and (progress.best is None or result <= progress.best)
        improved = better and (progress.best is None or result < progress.best)
        progress.unimproved = 0 if improved else progress.unimproved + 1
        if better:
            progress.best = result
        return better
