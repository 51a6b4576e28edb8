"""The order in which a session sends what does not change any more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 2
"""Items of a session that are in work at a time. The later one sends partial text only, until the
earlier one is over."""


class QueuePosition:
    """The position of an item, or of a request about items, in the order of its session.

    Attributes:
        first: set when everything before it is over.
        notify: called when `first` is set.
    """

    def __init__(self, order: SendingOrder) -> None:
        self._order = order
        self.first = asyncio.Event()
        self.notify: Callable[[], object] = lambda: None

    def leave(self) -> None:
        """It is over, or was dropped: nothing waits for it any more."""
        self._order.remove(self)


class SendingOrder:
    """The items and requests of a session that are not over, in their order."""

    def __init__(self) -> None:
        self._positions: deque[QueuePosition] = deque()

    def join(self) -> QueuePosition:
        """A position behind all others."""
        position = QueuePosition(self)
        self._positions.append(position)
        self._notify_first()
        return position

    def remove(self, position: QueuePosition) -> None:
        """Take a position out, which may be any."""
        self._positions.remove(position)
        self._notify_first()

    def _notify_first(self) -> None:
        if self._positions and not self._positions[0].first.is_set():
            self._positions[0].first.set()
            self._positions[0].notify()
