"""The training loop: Lightning Fabric around plain torch, exactly resumable.

All random numbers of a step depend on the seed and the number of the batch alone, so a resumed run
computes the same losses, bit for bit, as an uninterrupted one: on a CPU, with as many processes and
threads. (Some of CUDA's backward kernels add in no fixed order.) Processes share the examples of
every batch and divide by the units of the whole batch, so that several compute the same losses as
one, up to the order of floating-point sums (and to dropout, whose masks differ).
"""

from __future__ import annotations

import gc
import hashlib
import math
import time
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from auris.errors import TrainingError, TrainingStopped
from auris.training.base_recipe import Recipe
from auris.training.data import TrainingClip
from auris.training.examples import (
    DataShard,
    EpochBatches,
    EpochPlan,
    TrainingBatch,
    dropout_seed,
    plan_epoch,
)
from auris.training.recipes import DEFAULT_EPOCHS, DEFAULT_WARMUPS, RecognizerRecipe
from auris.training.reports import RunLogger
from auris.training.score import DevScores, Scorer, score
from auris.training.state import (
    AVERAGE,
    BEST,
    LAST,
    TrainingProgress,
    load_state,
    save_state,
    update_average,
)
from auris.training.stopping import StopSignals
from auris.training.tasks import Losses, Task, TrainedModel

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


class TrainingLoop:
    """One run over clips in memory; subclasses say what its batches and scores are.

    Args:
        clips: training clips.
        dev: development clips by the name of their set.
        out: the run's folder, for checkpoints.
        fabric: the processes and the device, launched.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: TrainedModel,
        clips: Sequence[TrainingClip],
        dev: Mapping[str, Sequence[TrainingClip]],
        out: Path,
        logger: RunLogger,
        fabric: Fabric,
    ) -> None:
        if not clips:
            raise TrainingError("No clip can be used for training", "", "see the data report")
        self.recipe, self.task, self.clips, self.dev = recipe, task, clips, dev
        self.out, self.logger, self.fabric = out, logger, fabric
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
        self._wrapped, self.optimizer = fabric.setup(task, _optimizer(task, recipe))

    @property
    def _leads(self) -> bool:
        return self.fabric.global_rank == 0

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b()
        for clip in self.clips:
            facts = (clip.ids, clip.speaker, clip.language, clip.prompt, len(clip.samples))
            digest.update(repr(facts).encode("utf-8", "backslashreplace"))
            digest.update(clip.samples.tobytes())
        return digest.hexdigest()

    @abstractmethod
    def _batch_counts(self) -> Iterator[int]:
        """Batches of each epoch."""

    @abstractmethod
    def _batches(self, epoch: int, first: int) -> Generator[TrainingBatch, None, None]:
        """The batches of an epoch from batch `first` on."""

    @abstractmethod
    def _scores(self, all_parts: bool) -> DevScores:
        """Scores of the development sets; `all_parts` as of `TrainedModel.forward`."""

    def _count_steps(self) -> int:
        if self.recipe.max_steps is not None:
            return self.recipe.max_steps
        every, epochs = self.recipe.gradient_accumulation_steps, self.recipe.epochs
        least = 0 if epochs is not None else DEFAULT_WARMUPS * self.recipe.warmup_steps
        counts = islice(self._batch_counts(), DEFAULT_EPOCHS if epochs is None else epochs)
        return max(least, sum(math.ceil(count / every) for count in counts))

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
        if self._leads:
            self.logger.rewind(progress.step, progress.epoch, list(self.dev))

    def run(self) -> None:
        """Train to the end of the recipe.

        Raises:
            TrainingStopped: a signal ended the run; a checkpoint was written.
        """
        opened = self.logger.open(self.progress.step, self.steps) if self._leads else nullcontext()
        with opened, self.signals.handled():
            if self.progress.step == 0:
                self._save(LAST)  # So that a run can be resumed whenever it breaks off.
            while self.progress.step < self.steps or self.progress.batch:
                self._train_epoch()
                self._end_epoch()

    def close(self) -> None:
        """Release the wrapper that averages gradients, so that `auris.training.processes.leave` is
        the last to refer to the group of processes. No step can follow."""
        del self._wrapped
        gc.collect()

    def _train_epoch(self) -> None:
        progress, recipe = self.progress, self.recipe
        if progress.step == self.steps:
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
                    self.logger.step(progress.step, progress.epoch + 1, loss, rate, now - started)
                started = now
                if progress.step % recipe.checkpoint_steps == 0:
                    if recipe.average_over and self._leads:
                        average = self.out / AVERAGE
                        update_average(average, self.task, recipe.average_over, progress.step)
                    self._save(LAST)
                self._stop_if_signalled(save=True)
                if progress.step == self.steps:
                    break

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
        loss = 0.0
        for index, batch in enumerate(batches):
            number = self.progress.batches + index
            torch.manual_seed(dropout_seed(recipe.seed, number, self.shard.rank))
            last = index == len(batches) - 1
            with fabric.no_backward_sync(self._wrapped, enabled=not last):
                loss += self._backward(batch, 1.0 / len(batches))
        norm = fabric.clip_gradients(
            self._wrapped,
            self.optimizer,
            max_norm=recipe.max_grad_norm,
            error_if_nonfinite=False,
        )
        if not (math.isfinite(loss) and bool(norm is None or norm.isfinite())):
            self.progress.skipped += 1
            return math.nan
        self.optimizer.step()
        return loss

    def _backward(self, batch: TrainingBatch, weight: float) -> float:
        """Gradients of one batch; its loss over all processes, times `weight`."""
        all_parts = self.task.trains_all_parts(self.progress.step)
        sums, counts = self._wrapped(batch.to(self.fabric.device), all_parts)
        if not batch.counted:
            sums, counts = 0.0 * sums, 0.0 * counts
        given = Losses(sums, self._over_all(counts.detach()))
        # Gradients are averaged over the processes, and the loss is a sum over them.
        self.fabric.backward(given.total * (weight * self.shard.of))
        return weight * float(self._over_all(given.total.detach()))

    def _over_all(self, values: Tensor, operation: str = "sum") -> Tensor:
        if self.shard.of == 1:
            return values
        total = self.fabric.all_reduce(values, reduce_op=operation)
        assert isinstance(total, Tensor)
        return total

    def _save(self, name: str, **scores: Any) -> None:
        if self._leads:
            optimizer = self.optimizer if name == LAST else None
            progress = {**scores, **asdict(self.progress)}
            save_state(self.out / name, self.task, optimizer, progress)

    def _end_epoch(self) -> None:
        """Score the epoch, and write its checkpoints.

        The steps of the epoch are saved first, so that a run that ends during the scoring, which
        takes long, is resumed with the scoring.
        """
        progress = self.progress
        if self.dev:
            self._save(LAST)
        all_parts = self.task.trains_all_parts(progress.step - 1)
        scores = self._scores(all_parts)
        if self._leads:
            rate = self.recipe.learning_rate(progress.step - 1, self.steps)
            self.logger.epoch(progress, rate, scores.rates, scores.loss)
        result = scores.mean if self.dev else progress.loss
        if progress.all_parts != all_parts:
            # The error rate of a part of the model cannot be compared with that of the whole.
            progress.all_parts, progress.best = all_parts, None
        better = not math.isnan(result) and (progress.best is None or result <= progress.best)
        if better:
            progress.best = result
        losses = progress.losses
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


class Trainer(TrainingLoop):
    """Trains a recognizer on clips with units.

    Args:
        workers: processes that prepare batches ahead, see `EpochBatches.load`.
    """

    recipe: RecognizerRecipe
    task: Task

    def __init__(
        self,
        recipe: RecognizerRecipe,
        task: Task,
        clips: Sequence[TrainingClip],
        dev: Mapping[str, Sequence[TrainingClip]],
        out: Path,
        logger: RunLogger,
        fabric: Fabric,
        workers: int = 0,
    ) -> None:
        self.workers = workers
        if recipe.use_compile:
            task.compile_encoder(fabric.device)
        super().__init__(recipe, task, clips, dev, out, logger, fabric)

    def _batch_counts(self) -> Iterator[int]:
        return (len(self._plan(epoch).batches) for epoch in count())

    def _plan(self, epoch: int) -> EpochPlan:
        return plan_epoch(self.clips, self.recipe, epoch)

    def _batches(self, epoch: int, first: int) -> Generator[TrainingBatch, None, None]:
        plan = self._plan(epoch)
        batches = EpochBatches(self.clips, self.recipe, self.task.preprocessor, plan, self.shard)
        return batches.load(first, self.workers)

    def _scores(self, all_parts: bool) -> DevScores:
        scorer = Scorer(self.task, self.fabric.device, self.recipe.bf16, all_parts)
        return score(scorer, self.dev, self.shard, self._over_all, self._stop_if_signalled)
