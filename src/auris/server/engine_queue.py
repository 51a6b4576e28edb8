"""The chunks that wait for an engine, in the order in which it takes them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from auris.recognition.requests import ChunkRequest, ChunkResult

__all__ = ["SHORT_SECONDS", "CallerQueue", "ChunkQueue", "Deliver", "Priority", "Ticket"]

SHORT_SECONDS = 60.0
"""Longest recording whose chunks go before those of longer ones."""

SHORT_IN_A_ROW = 7
"""Chunks of short recordings that are taken one after the other while a longer one waits."""

Deliver = Callable[[ChunkResult | Exception | None], None]


class Priority(IntEnum):
    """Kinds of callers, the first one first.

    Attributes:
        SHORT: calls with recordings of up to `SHORT_SECONDS`.
        FILE: calls with longer ones.
        JOB: jobs.
    """

    SHORT = 0
    FILE = 1
    JOB = 2


@dataclass
class CallerQueue:
    """One caller's place among the others of its priority.

    Attributes:
        following: round of its next chunk.
    """

    following: int = 0


@dataclass(order=True)
class Ticket:
    """A chunk that waits for its turn or is under way.

    Attributes:
        round: chunks of one caller are in successive rounds; earlier rounds are taken first.
        number: order of arrival, and the chunk's name in the engine.
        priority, request, deliver: see `Engine.submit`.
    """

    round: int
    number: int
    priority: Priority = field(compare=False)
    request: ChunkRequest = field(compare=False)
    deliver: Deliver = field(compare=False)


class ChunkQueue:
    """Chunks that wait. Not safe for several threads; the engine has a lock.

    Callers of one priority take turns, chunk by chunk, so one that has many chunks does not make
    another one wait for all of them. Longer recordings get every eighth turn, at least, while
    short ones come without end; jobs wait for both.
    """

    def __init__(self) -> None:
        self._waiting: dict[Priority, list[Ticket]] = {kind: [] for kind in Priority}
        self._rounds = dict.fromkeys(Priority, 0)
        self._numbers = itertools.count()
        self._in_a_row = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Ticket]:
        return itertools.chain.from_iterable(self._waiting.values())

    def put(
        self,
        request: ChunkRequest,
        priority: Priority,
        deliver: Deliver,
        caller: CallerQueue | None = None,
    ) -> None:
        """Add a chunk; without a caller it is a caller's only one."""
        caller = CallerQueue() if caller is None else caller
        turn = max(caller.following, self._rounds[priority])
        caller.following = turn + 1
        ticket = Ticket(turn, next(self._numbers), priority, request, deliver)
        heapq.heappush(self._waiting[priority], ticket)

    def first(self) -> Ticket | None:
        """The chunk whose turn is next; None where none waits."""
        short, file, job = (self._waiting[kind] for kind in Priority)
        if short and not (file and self._in_a_row >= SHORT_IN_A_ROW):
            return short[0]
        for waiting in (file, job):
            if waiting:
                return waiting[0]
        return None

    def take(self, ticket: Ticket) -> None:
        """Remove the chunk that `first` gave; its turn has come."""
        heapq.heappop(self._waiting[ticket.priority])
        self._rounds[ticket.priority] = ticket.round
        self._in_a_row = self._in_a_row + 1 if ticket.priority is Priority.SHORT else 0

    def clear(self) -> None:
        """Forget all of them."""
        for waiting in self._waiting.values():
            waiting.clear()
