"""Readers: each reads shards of its own, block by block, and makes batches of every block.

What a reader does depends on the seed, its number and its position alone. A block has the clips
that fit into the memory of the reader, or those up to the end of a pass over its shards. It is
planned like the clips in memory of an ordinary run: joined, put into batches of similar length, and
these into a random order. To continue, a reader reads the block again that it was in.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeAlias

from auris.errors import TrainingError
from auris.scale.rows import StorageFailures
from auris.training.corpus.plan import CorpusPlan, Pool
from auris.training.corpus.rows import corpus_rows
from auris.training.data import ClipForm, DataReport, TrainingClip, load_clip, spelled
from auris.training.examples import (
    EpochBatches,
    Preprocessor,
    TrainingBatch,
    generator,
    plan_epoch,
    planned_seconds,
)
from auris.training.manifests import ManifestRow
from auris.training.recipes import RecognizerRecipe

SHARDS, POOLS = 4, 5
"""Purposes of random numbers, in addition to those of `auris.training.examples`."""

LEAST_SECONDS = 0.05
"""What the shortest clip, or a text without audio, counts in the memory of a reader."""

TRIES = 3
"""How often a recording is read whose filesystem fails."""


@dataclass(frozen=True)
class PoolPosition:
    """Where a reader is in a pool: passes that are over, its shard of this pass, rows of that."""

    passes: int = 0
    shard: int = 0
    row: int = 0


PoolRow: TypeAlias = "tuple[ManifestRow | None, PoolPosition]"
"""A row, and the position after it; None is the end of a pass."""


@dataclass(frozen=True)
class ReaderPosition:
    """Where a reader is.

    Attributes:
        block: number of the block.
        batch: number of its next batch.
        pools: where the block begins.
    """

    block: int
    batch: int
    pools: tuple[PoolPosition, ...]

    @property
    def numbers(self) -> list[int]:
        """As numbers, of which there are always as many."""
        return [self.block, self.batch, *(n for pool in self.pools for n in astuple(pool))]

    @classmethod
    def of(cls, numbers: list[int], pools: int) -> ReaderPosition:
        """Of what `numbers` returned; the beginning where there are none."""
        block, batch, *rest = numbers or [0] * (2 + 3 * pools)
        starts = (rest[3 * i : 3 * i + 3] for i in range(pools))
        return cls(block, batch, tuple(PoolPosition(*start) for start in starts))


@dataclass
class Block:
    """Clips that are in memory together.

    Attributes:
        start: where the block begins.
        following: where the next one begins.
        passes: passes that were over before it, over every pool.
    """

    start: ReaderPosition
    following: ReaderPosition
    passes: int
    report: DataReport = field(default_factory=DataReport)


@dataclass(frozen=True)
class BatchPart:
    """A part of a batch, the position after it, and rows that are left out, by reason."""

    batch: TrainingBatch
    position: ReaderPosition
    skipped: dict[str, list[str]]


def _left_out(report: DataReport) -> dict[str, list[str]]:
    cut = {"cut to max_mel_length": report.cut} if report.cut else {}
    return {**report.skipped, **cut}


class ClipReader:
    """The reader of a number.

    Args:
        recipe: with the audio of a part of a batch as `batch_seconds`.
    """

    def __init__(
        self,
        plan: CorpusPlan,
        recipe: RecognizerRecipe,
        preprocessor: Preprocessor,
        form: ClipForm,
        number: int,
    ) -> None:
        self._plan, self._recipe, self._preprocessor = plan, recipe, preprocessor
        self._form, self._number = form, number
        self._failures = StorageFailures()
        self._stopped = threading.Event()

    def parts(self, position: ReaderPosition) -> Generator[BatchPart, None, None]:
        """Parts of batches from a position on, without end.

        Raises:
            TrainingError: no clip can be used, or storage fails.
        """
        first = position.batch
        with closing(self._ahead(self.blocks(position))) as blocks:
            for block in blocks:
                number, skipped = block.start.block, _left_out(block.report)
                # The first reader has the random numbers of a run without readers.
                key = (number, self._number) if self._number else (number,)
                clips = block.report.clips
                planned = plan_epoch(clips, self._recipe, block.passes, key)
                batches = EpochBatches(clips, self._recipe, self._preprocessor, planned)
                for index in range(first, len(planned.batches)):
                    after = replace(block.start, batch=index + 1)
                    yield BatchPart(batches.batch(index), after, skipped)
                    skipped = {}
                first = 0

    def _ahead(self, blocks: Iterator[Block]) -> Generator[Block, None, None]:
        """The blocks, each read while the one before it is used."""
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(partial(next, blocks))
            try:
                while True:
                    block = coming.result()
                    coming = thread.submit(partial(next, blocks))
                    yield block
            finally:
                self._stopped.set()

    def blocks(self, position: ReaderPosition) -> Iterator[Block]:
        """The blocks from a position on, without end; errors as of `parts`."""
        begun = zip(self._plan.pools, position.pools, strict=True)
        streams = [self._rows(n, pool, start) for n, (pool, start) in enumerate(begun)]
        start = replace(position, batch=0)
        while True:
            block = self._block(start, streams)
            yield block
            start = block.following

    def _block(
        self,
        start: ReaderPosition,
        streams: list[Iterator[PoolRow]],
    ) -> Block:
        """Read from a position until the memory is full or a pass over every pool is over."""
        recipe, weights = self._recipe, self._recipe.corpus.weights
        rng = generator(recipe.seed, POOLS, start.block, self._number)
        shares = [weight / sum(weights) for weight in weights] or [1.0]
        begun, now = list(start.pools), list(start.pools)
        report = DataReport(names_language=self._form.replies)
        seconds, longest = 0.0, min(recipe.batch_seconds, recipe.longest_seconds)
        ended = [0] * len(streams)
        while seconds + longest <= recipe.corpus.block_seconds:
            chosen = int(rng.choice(len(streams), p=shares)) if len(streams) > 1 else 0
            before = now[chosen]
            row, now[chosen] = next(streams[chosen])
            if row is None and before == begun[chosen] and before.row:
                # The pass was over already when the block began.
                begun[chosen] = now[chosen]
            elif row is None:
                ended[chosen] += 1
                if min(ended) and report.clips:
                    break
                if min(ended) > 1:
                    raise self._without_clips(report)
            else:
                seconds += self._add(row, longest, report)
        following = ReaderPosition(start.block + 1, 0, tuple(now))
        return Block(start, following, min(pool.passes for pool in begun), report)

    def _add(self, row: ManifestRow, longest: float, report: DataReport) -> float:
        """Add the clip of a row with its units, or why there is none; the seconds it counts."""
        before = len(report.clips)
        report.add(row.name, self._clip(row, longest), longest, self._recipe.longest_seconds)
        if len(report.clips) == before:
            return 0.0
        preprocessor = self._preprocessor
        report.add(row.name, spelled(report.clips.pop(), preprocessor.spell, preprocessor.aligned))
        return sum(max(planned_seconds(clip), LEAST_SECONDS) for clip in report.clips[before:])

    def _clip(self, row: ManifestRow, longest: float) -> TrainingClip | str:
        """The clip of a row, or why there is none; a filesystem that fails is tried again."""
        form = self._form
        for _ in range(TRIES):
            if self._stopped.is_set():
                raise TrainingError("The reading of a corpus was stopped", "", "resume the run")
            # A second more shows that a clip is too long.
            clip = load_clip(row, form.form, form.replies, form.texts, longest + 1.0)
            if not self._failures.errors:
                return clip
            error = self._failures.errors[-1]
            self._failures.errors.clear()
        raise TrainingError(
            "The storage of a corpus has to be readable",
            f"{row.name} was not, {TRIES} times ({error})",
            "check the network, then resume the run",
        ) from error

    def _without_clips(self, report: DataReport) -> TrainingError:
        reasons = "; ".join(report.describe().split("\n")[1:]) or "its shards are empty"
        return TrainingError(
            "No clip of a reader can be used for training",
            f"reader {self._number} found none in a whole pass: {reasons}",
            "correct the corpus",
        )

    def _rows(self, number: int, pool: Pool, start: PoolPosition) -> Iterator[PoolRow]:
        """The rows of the reader's shards, pass after pass."""
        passes, first, done = start.passes, start.shard, start.row
        while True:
            rng = generator(self._recipe.seed, SHARDS, number, passes)
            order = rng.permutation(len(pool.shards))
            mine = order[self._number :: self._recipe.corpus.readers].tolist()
            for index in range(first, len(mine)):
                shard = pool.shards[mine[index]]
                rows = (
                    row
                    for unit in pool.read(shard)
                    for row in corpus_rows(unit, self._form.language, self._failures)
                )
                for count, row in enumerate(islice(rows, done, None), done + 1):
                    yield row, PoolPosition(passes, index, count)
                done = 0
            passes, first = passes + 1, 0
            yield None, PoolPosition(passes)
