"""Ctrl-C during a long run: no press is lost, and the results so far stay."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "Interrupt", "interruptible"]

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as in shells."""


class Interrupt:
    """Whether Ctrl-C was pressed.

    A press sets a flag, and raises KeyboardInterrupt, which ends waiting for input at once. The
    flag is needed because libraries that call back into Python may drop the exception.

    Attributes:
        raises: whether a press raises, too.
    """

    def __init__(self) -> None:
        self.raises = True
        self._pressed = False

    def is_set(self) -> bool:
        """Whether it was pressed."""
        return self._pressed

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self._pressed = True
        if self.raises:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle Ctrl-C inside the block; a KeyboardInterrupt that it raises ends the block quietly."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Only the main thread may handle signals.
        return
    before = signal.signal(signal.SIGINT, interrupt.handle)
    try:
        yield interrupt
    except KeyboardInterrupt:
        if not interrupt.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, before)
