"""The batches of a process from its readers, prepared by worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TypeAlias

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from auris.errors import AurisError
from auris.training.corpus.reader import BatchPart, ClipReader, ReaderPosition
from auris.training.examples import Packed, TrainingBatch, packed, unpacked
from auris.training.stopping import defer_signals, signals_blocked

PackedPart: TypeAlias = "tuple[Packed, ReaderPosition, dict[str, list[str]], int] | AurisError"
"""A `BatchPart` as a worker hands it over, with the number of its reader; or why there is none."""


@dataclass(frozen=True)
class LoadedBatch:
    """The share of a process in a batch.

    Attributes:
        batch: the parts as one.
        positions: of the readers that they come from, by their numbers.
        skipped: rows that these readers have left out since, by their numbers and by reason.
    """

    batch: TrainingBatch
    positions: dict[int, ReaderPosition]
    skipped: dict[int, dict[str, list[str]]]


class CorpusBatches(IterableDataset[PackedPart]):
    """Parts of batches from several readers in turns, without end.

    Args:
        readers: by their numbers, in the order of their turns.
        positions: where they begin.
    """

    def __init__(
        self, readers: dict[int, ClipReader], positions: dict[int, ReaderPosition]
    ) -> None:
        self._readers, self._positions = readers, positions

    def __iter__(self) -> Iterator[PackedPart]:
        """The parts of the readers of this worker; an error is the last one."""
        worker = get_worker_info()
        numbers = list(self._readers)
        mine = numbers if worker is None else numbers[worker.id :: worker.num_workers]
        with ExitStack() as stack:
            parts = {
                number: stack.enter_context(
                    closing(self._readers[number].parts(self._positions[number]))
                )
                for number in mine
            }
            for number in cycle(mine):
                try:
                    part = next(parts[number])
                except AurisError as error:  # torch would pass on another one.
                    yield error
                    return
                yield packed(part.batch), part.position, part.skipped, number

    def load(self, parts: int, workers: int) -> Generator[LoadedBatch, None, None]:
        """Batches of so many parts.

        Args:
            workers: processes that prepare them ahead, at most one for each reader; 0 prepares
                each when it is needed.

        Raises:
            TrainingError: no clip can be used, or storage fails.
        """
        workers = _divisor(len(self._readers), workers)
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=defer_signals,
            multiprocessing_context="fork" if workers else None,
        )
        with signals_blocked():
            loaded = iter(loader)
        while True:
            yield _together(list(map(_part, islice(loaded, parts))))


def _divisor(readers: int, workers: int) -> int:
    """As many workers as possible with the same number of readers each."""
    return next((n for n in range(min(workers, readers), 0, -1) if readers % n == 0), 0)


def _part(given: PackedPart) -> tuple[int, BatchPart]:
    if isinstance(given, AurisError):
        raise given
    batch, position, skipped, number = given
    return number, BatchPart(unpacked(batch), position, skipped)


def _together(parts: Sequence[tuple[int, BatchPart]]) -> LoadedBatch:
    """Parts as one batch."""
    batches = [part.batch for _, part in parts]
    if len(batches) == 1:
        batch = batches[0]
    else:
        batch = replace(
            batches[0],
            mels=[mel for each in batches for mel in each.mels],
            targets=[target for each in batches for target in each.targets],
            languages=[language for each in batches for language in each.languages],
            contexts=[context for each in batches for context in each.contexts],
            texts=[text for each in batches for text in each.texts],
        )
    return LoadedBatch(
        batch,
        {number: part.position for number, part in parts},
        {number: part.skipped for number, part in parts if part.skipped},
    )
