"""The pieces that wait for an engine, in the order in which it takes them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from auris.pieces import Piece, Recognized

__all__ = ["SHORT_SECONDS", "Deliver", "Lineup", "PieceQueue", "Priority", "Ticket"]

SHORT_SECONDS = 60.0
"""Longest recording whose pieces go before those of longer ones."""

SHORT_IN_A_ROW = 7
"""Pieces of short recordings that are taken one after the other while a longer one waits."""

Deliver = Callable[[Recognized | Exception | None], None]


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
class Lineup:
    """One caller's place among the others of its priority.

    Attributes:
        following: round of its next piece.
    """

    following: int = 0


@dataclass(order=True)
class Ticket:
    """A piece that waits for its turn or is under way.

    Attributes:
        round: pieces of one caller are in successive rounds; earlier rounds are taken first.
        number: order of arrival, and the piece's name in the engine.
        priority, piece, deliver: see `Engine.submit`.
    """

    round: int
    number: int
    priority: Priority = field(compare=False)
    piece: Piece = field(compare=False)
    deliver: Deliver = field(compare=False)


class PieceQueue:
    """Pieces that wait. Not safe for several threads; the engine has a lock.

    Callers of one priority take turns, piece by piece, so one that has many pieces does not make
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
        self, piece: Piece, priority: Priority, deliver: Deliver, lineup: Lineup | None = None
    ) -> None:
        """Add a piece; without a lineup it is a caller's only one."""
        lineup = Lineup() if lineup is None else lineup
        turn = max(lineup.following, self._rounds[priority])
        lineup.following = turn + 1
        ticket = Ticket(turn, next(self._numbers), priority, piece, deliver)
        heapq.heappush(self._waiting[priority], ticket)

    def first(self) -> Ticket | None:
        """The piece whose turn is next; None where none waits."""
        short, file, job = (self._waiting[kind] for kind in Priority)
        if short and not (file and self._in_a_row >= SHORT_IN_A_ROW):
            return short[0]
        for waiting in (file, job):
            if waiting:
                return waiting[0]
        return None

    def take(self, ticket: Ticket) -> None:
        """Remove the piece that `first` gave; its turn has come."""
        heapq.heappop(self._waiting[ticket.priority])
        self._rounds[ticket.priority] = ticket.round
        self._in_a_row = self._in_a_row + 1 if ticket.priority is Priority.SHORT else 0

    def clear(self) -> None:
        """Forget all of them."""
        for waiting in self._waiting.values():
            waiting.clear()
