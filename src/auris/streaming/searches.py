"""The searches of live streams, which run together, a pass at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from auris.errors import AurisError
from auris.recognition.recognizer import ChunkBatch, Recognizer, recognize
from auris.streaming.decoder import StepCost, StreamStep
from auris.streaming.session import StreamSession
from auris.types import Segment

ROWS = 4
"""Searches that are active at a time. More take longer each, and save hardly any time in all."""


@dataclass(frozen=True, eq=False)
class Search:
    """A chunk of a stream that is searched: one that is over, or one of which words may settle.

    Attributes:
        session: the stream.
        step: whose chunk is searched, with what its steps have encoded.
        cost: of encoding it.
    """

    session: StreamSession
    step: StreamStep
    cost: StepCost

    def replaced_by(self, other: Search) -> bool:
        """Whether a later search of the same stream settles words in the place of this one."""
        return self.session is other.session and not self.step.ends


SearchResult = Segment | AurisError
"""What a search found, or why it failed."""


class SearchQueue:
    """Searches that wait or are active. Those of one stream are done in their order.

    Chunks that are over come first. A search that settles words waits until none of them does; the
    next one of the same stream replaces it while it waits, and is left out while it is active.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._batch: ChunkBatch | None = None
        self._waiting: list[Search] = []
        self._active: dict[int, Search] = {}
        self._number = 0

    @property
    def pending(self) -> int:
        """Searches that are not over."""
        return len(self._waiting) + len(self._active)

    def add(self, search: Search) -> None:
        """Take a search."""
        if not search.step.ends:
            if any(one.session is search.session for one in self._active.values()):
                return
            for one in [one for one in self._waiting if one.replaced_by(search)]:
                self._end_waiting(one)
        search.session.searches += 1
        self._waiting.append(search)

    def step(self) -> list[tuple[Search, SearchResult]]:
        """One pass over the active searches; returns those that are over, with what they found.

        Of searches whose stream has no use for them any more, nothing is returned. After an
        AurisError each search is done alone, so that only its cause has an error.
        """
        if self._batch is None:
            self._batch = self._recognizer.batch(ROWS)
        while self._batch.has_room() and (search := self._next()) is not None:
            self._active[self._number] = search
            self._batch.add(replace(search.step.request, key=self._number))
            self._number += 1
        over: list[tuple[Search, Segment | None]]
        try:
            over = [(self._active.pop(one.key), one.segment) for one in self._batch.step()]
        except AurisError:
            over = [(search, None) for search in self._active.values()]
            self._active.clear()
        if not self._active:
            self._batch = None  # Its cache may have grown.
        for search, _ in over:
            search.session.searches -= 1
        return [
            (search, self._alone(search) if segment is None else segment)
            for search, segment in over
            if not search.step.request.cancelled()
        ]

    def clear(self) -> list[StreamSession]:
        """Forget the active searches, or those that wait if none is; returns their streams."""
        searches = list(self._active.values()) or self._waiting
        for search in searches:
            search.session.searches -= 1
        sessions = [search.session for search in searches]
        if not self._active:
            self._waiting = []
        self._active.clear()
        self._batch = None
        return sessions

    def _next(self) -> Search | None:
        """Take the next search out of those that wait."""
        busy = {one.session for one in self._active.values()}
        for search in sorted(self._waiting, key=lambda one: not one.step.ends):
            if search.step.request.cancelled():
                self._end_waiting(search)
            elif search.session not in busy:
                self._waiting.remove(search)
                return search
        return None

    def _end_waiting(self, search: Search) -> None:
        self._waiting.remove(search)
        search.session.searches -= 1

    def _alone(self, search: Search) -> SearchResult:
        try:
            return recognize(self._recognizer, search.step.request).segment
        except AurisError as error:
            return error
