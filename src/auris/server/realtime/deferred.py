"""The text of an item that is recognized while the item before it has no final text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from auris.streaming.session import StreamUpdate
from auris.types import Segment, Word

Event = dict[str, Any]


@dataclass
class DeferredText:
    """Events that are sent later, and the text of the item meanwhile, all of which is partial.

    Attributes:
        events: those that are deferred.
        newest: the last update.
    """

    events: list[Event] = field(default_factory=list)
    newest: StreamUpdate | None = None
    _start: float | None = None
    _text: str = ""
    _words: tuple[Word, ...] = ()

    def add(self, update: StreamUpdate, events: Iterable[Event]) -> None:
        """Defer the events of an update, without that of its partial text."""
        self.events += events
        self.newest = update
        self._text += update.delta
        if self._start is None:
            self._start = update.segment.start
        if update.final:
            self._words += update.segment.words or ()

    def shown(self) -> tuple[str, Segment]:
        """The text so far, and a segment with its times and words."""
        newest = self.newest
        assert newest is not None
        assert self._start is not None
        words = self._words if newest.final else (*self._words, *(newest.segment.words or ()))
        segment = replace(newest.segment, start=self._start, words=words)
        return self._text + newest.partial, segment
