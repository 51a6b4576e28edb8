"""What a client of a realtime session knows, and the rules that its events follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.server.talk import DELTA, DONE, FAILED, Event

PROVISIONAL, FINAL, WORDS = "auris.provisional", "auris.final", "auris.words"
SETTLED = (DELTA, FINAL, WORDS, "auris.speakers", DONE, FAILED)
"""Events of an item that are never taken back. They come after all of the item before."""


@dataclass
class Shown:
    """An item as a client shows it."""

    deltas: str = ""
    final: str = ""
    carried: str = ""
    since: str = ""  # Deltas since the last final text.
    partial: str = ""
    ahead: list[str] = field(default_factory=list)  # Partial texts before its turn.
    last: Event | None = None

    @property
    def text(self) -> str:
        return self.final + self.carried + self.since + self.partial


@dataclass
class View:
    """A client, which fails where an event breaks a rule."""

    events: list[Event] = field(default_factory=list)
    items: dict[str, Shown] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """See an event."""
        self.events.append(event)
        kind, name = event["type"], event.get("item_id", "")
        if kind == "input_audio_buffer.cleared":
            self.dropped |= {one for one in self.items if one not in self.order}
        elif name:
            assert name not in self.dropped, event
            item = self.items.setdefault(name, Shown())
            if kind == "input_audio_buffer.committed":
                assert event["previous_item_id"] == (self.order[-1] if self.order else None)
                self.order.append(name)
            elif kind == PROVISIONAL or kind in SETTLED:
                self._take_text(item, name, event)

    def over(self) -> list[Event]:
        """The last events of the items, in the order of their audio; all have one."""
        lasts = [self.items[name].last for name in self.order]
        return [last for last in lasts if last is not None]

    def _before(self, name: str) -> int:
        """Items before this one that are not over."""
        first = self.order.index(name) if name in self.order else len(self.order)
        return sum(self.items[one].last is None for one in self.order[:first])

    def _take_text(self, item: Shown, name: str, event: Event) -> None:
        kind, before = event["type"], self._before(name)
        assert item.last is None, event
        assert before <= (1 if kind == PROVISIONAL else 0), event
        if kind == PROVISIONAL:
            assert event["start_ms"] <= event["end_ms"]
            item.partial = event["text"]
            if before:
                assert not item.deltas, "settled text comes after the item before"
                item.ahead.append(event["text"])
            return
        item.partial = ""
        if kind == DELTA:
            item.deltas += event["delta"]
            item.since += event["delta"]
        elif kind == FINAL:
            item.final += event["text"]
            item.carried, item.since = event["carried"], ""
        elif kind in (DONE, FAILED):
            item.last = event
            if kind == DONE:
                assert event["transcript"] in (item.final, item.deltas), event
