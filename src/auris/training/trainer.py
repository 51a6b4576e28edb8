"""The loops of recognizers: over clips in memory, and over a corpus that is read meanwhile."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import torch

from auris.errors import TrainingError
from auris.training.base_recipe import Recipe
from auris.training.checkpointing import checkpoint_layers
from auris.training.corpus.loading import CorpusBatches, LoadedBatch
from auris.training.corpus.plan import CorpusPlan
from auris.training.corpus.reader import ClipReader, ReaderPosition
from auris.training.corpus.report import SkippedRows
from auris.training.data import ClipForm, TrainingClip, fingerprint
from auris.training.examples import EpochBatches, EpochPlan, TrainingBatch, plan_epoch
from auris.training.loop import LoopParts, TrainingLoop
from auris.training.recipes import DEFAULT_EPOCHS, DEFAULT_WARMUPS, RecognizerRecipe
from auris.training.score import DevScores, Scorer, score
from auris.training.tasks import Task


def count_steps(recipe: Recipe, batches: Iterator[int]) -> int:
    """Steps of a run whose epochs have so many batches."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    every, epochs = recipe.gradient_accumulation_steps, recipe.epochs
    least = 0 if epochs is not None else DEFAULT_WARMUPS * recipe.warmup_steps
    counts = islice(batches, DEFAULT_EPOCHS if epochs is None else epochs)
    return max(least, sum(math.ceil(count / every) for count in counts))


@dataclass(frozen=True)
class RecognizerParts(LoopParts):
    """What the loop of a recognizer needs besides its training data."""

    recipe: RecognizerRecipe
    task: Task
    workers: int = 0
    """Processes that prepare batches ahead."""


class RecognizerTrainer(TrainingLoop):
    """Trains a recognizer; development sets are transcribed."""

    recipe: RecognizerRecipe
    task: Task

    def __init__(self, parts: RecognizerParts) -> None:
        self.workers = parts.workers
        if parts.recipe.use_compile:
            parts.task.compile_encoder(parts.fabric.device)
        if parts.recipe.gradient_checkpointing:
            checkpoint_layers(parts.task.model)
        super().__init__(parts)

    def _scores(self, all_parts: bool) -> DevScores:
        scorer = Scorer(self.task, self.fabric.device, self.recipe.bf16, all_parts)
        return score(scorer, self.dev, self.shard, self._over_all, self._stop_if_signalled)


class Trainer(RecognizerTrainer):
    """Trains on clips in memory, with units."""

    def __init__(self, parts: RecognizerParts, clips: Sequence[TrainingClip]) -> None:
        if not clips:
            raise TrainingError("No clip can be used for training", "", "see the data report")
        self.clips = clips
        super().__init__(parts)

    def _fingerprint(self) -> str:
        return fingerprint(self.clips)

    def _count_steps(self) -> int:
        return count_steps(self.recipe, (len(self._plan(epoch).batches) for epoch in count()))

    def _plan(self, epoch: int) -> EpochPlan:
        return plan_epoch(self.clips, self.recipe, epoch)

    def _batches(self, epoch: int, first: int) -> Generator[TrainingBatch, None, None]:
        plan = self._plan(epoch)
        batches = EpochBatches(self.clips, self.recipe, self.task.preprocessor, plan, self.shard)
        return batches.load(first, self.workers)


class CorpusTrainer(RecognizerTrainer):
    """Trains on a corpus that is read meanwhile; its only epoch is the run."""

    def __init__(self, parts: RecognizerParts, plan: CorpusPlan, form: ClipForm) -> None:
        self._plan, self._form = plan, form
        self._skipped = SkippedRows(parts.out)
        self._positions: dict[int, ReaderPosition] = {}
        divided, processes = parts.recipe.corpus.batch_parts, parts.fabric.world_size
        if divided % processes:
            raise TrainingError(
                "Each process has to compute equally many parts of a batch",
                f"corpus.batch_parts is {divided}, and there are {processes} processes",
                "set batch_parts to the number of processes, or a multiple of it",
            )
        super().__init__(parts)

    def _fingerprint(self) -> str:
        return f"{self._plan.digest} {self._form}"

    def _count_steps(self) -> int:
        assert self.recipe.max_steps is not None
        return self.recipe.max_steps

    def _own_readers(self, first: int) -> list[int]:
        """The readers of this process, in the order of their turns from a batch on."""
        reading, rank, processes = self.recipe.corpus, self.shard.rank, self.shard.of
        turns = range(first * reading.batch_parts, first * reading.batch_parts + reading.readers)
        numbers = [turn % reading.readers for turn in turns]
        return [n for n in numbers if n % reading.batch_parts % processes == rank]

    def _batches(self, epoch: int, first: int) -> Generator[TrainingBatch, None, None]:
        recipe = self.recipe
        reading = recipe.corpus
        known = self.progress.readers or [[]] * reading.readers
        numbers = self._own_readers(self.progress.batches)
        readers = {
            number: ClipReader(
                self._plan, recipe.of_part, self.task.preprocessor, self._form, number
            )
            for number in numbers
        }
        pools = len(self._plan.pools)
        self._positions = {n: ReaderPosition.of(known[n], pools) for n in numbers}
        batches = CorpusBatches(readers, dict(self._positions))
        loaded = batches.load(reading.batch_parts // self.shard.of, self.workers)
        return self._recorded(loaded)

    def _recorded(
        self, loaded: Generator[LoadedBatch, None, None]
    ) -> Generator[TrainingBatch, None, None]:
        """The batches; the positions of the readers behind each are recorded."""
        try:
            for each in loaded:
                self._positions |= each.positions
                self._skipped.add(each.positions, each.skipped, self.logger.reporter)
                yield each.batch
        finally:
            loaded.close()

    def _prepare_progress(self) -> None:
        if not self._positions:
            return
        pools = len(self._plan.pools)
        table = torch.zeros(self.recipe.corpus.readers, 2 + 3 * pools, dtype=torch.int64)
        for number, position in self._positions.items():
            table[number] = torch.tensor(position.numbers)
        self.progress.readers = self._over_all(table.to(self.fabric.device)).tolist()
