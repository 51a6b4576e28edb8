"""Batches for tests: one that is stepped manually, and one that calls a function for each chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from auris.decoding.requests import never
from auris.recognition.recognizer import Recognizer
from auris.recognition.requests import ChunkRequest, ChunkResult
from auris.types import Segment


def recognize(
    recognizer: Recognizer,
    requests: Iterable[ChunkRequest],
    rows: int = 1,
    cancelled: Callable[[], bool] = never,
) -> Iterator[ChunkResult]:
    """Recognize requests, each taken when a row is free, until `cancelled` says true."""
    batch = recognizer.batch(rows)
    waiting = iter(requests)
    exhausted = False
    while not cancelled() and (batch.pending or not exhausted):
        while not exhausted and batch.has_room() and not cancelled():
            request = next(waiting, None)
            if request is None:
                exhausted = True
            else:
                batch.add(request)
        yield from batch.step()
    yield from batch.cancel()


class ScriptedBatch:
    """Finishes one of up to `rows` chunks a step, in the given order of places.

    Args:
        segment: makes the segment of a request, with a finish reason.
        rows: most chunks at once.
        order: which of the pending chunks each step finishes, modulo their number.
    """

    def __init__(
        self,
        segment: Callable[[ChunkRequest, str], Segment],
        rows: int = 1,
        order: Iterable[int] = (0,),
    ) -> None:
        self._segment = segment
        self._rows = rows
        self._order = list(order)
        self._held: list[ChunkRequest] = []
        self._steps = 0
        self.taken = 0

    @property
    def pending(self) -> int:
        return len(self._held)

    def has_room(self) -> bool:
        return len(self._held) < self._rows

    def add(self, request: ChunkRequest) -> None:
        self.taken += 1
        self._held.append(request)

    def step(self) -> list[ChunkResult]:
        if not self._held:
            return []
        place = self._order[self._steps % len(self._order)] % len(self._held)
        self._steps += 1
        return [self._result(self._held.pop(place), "stop")]

    def cancel(self) -> list[ChunkResult]:
        held, self._held = self._held, []
        return [self._result(request, "cancelled") for request in held]

    def _result(self, request: ChunkRequest, reason: str) -> ChunkResult:
        return ChunkResult(request.key, self._segment(request, reason), {"mel": 1.0})
