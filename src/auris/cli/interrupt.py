"""Ctrl-C during a long run: it is never lost, and what was written stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["INTERRUPTED", "Interrupt", "interruptible"]

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells have it."""


class Interrupt:
    """Whether Ctrl-C was pressed.

    A press raises KeyboardInterrupt, which ends waiting for input at once. It also sets a flag,
    since libraries that call back into Python may drop the exception.
    """

    def __init__(self) -> None:
        self._pressed = False

    def is_set(self) -> bool:
        """Whether it was pressed."""
        return self._pressed

    def press(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self._pressed = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle Ctrl-C inside the block; a KeyboardInterrupt ends it quietly."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Only the main thread may handle signals.
        return
    before = signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    except KeyboardInterrupt:
        if not interrupt.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, before)
