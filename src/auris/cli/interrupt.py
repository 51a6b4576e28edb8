"""Ctrl-C at any moment of a command ends it with exit code 130, and the results so far stay.

A KeyboardInterrupt that is raised while modules load can be dropped by the module, or leave half of
it behind. There, and while Python shuts down, Ctrl-C ends the process at once instead.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as in shells."""

IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


class Interrupt:
    """Whether Ctrl-C was pressed.

    Ctrl-C sets a flag and raises KeyboardInterrupt, which ends waiting for input at once. The flag
    is needed because libraries that call back into Python may drop the exception.

    Attributes:
        raises: whether Ctrl-C raises; it never does while modules load.
    """

    def __init__(self) -> None:
        self.raises = True
        self._pressed = False

    def is_set(self) -> bool:
        """Whether it was pressed."""
        return self._pressed

    def handle(self, _number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self._pressed = True
        if self.raises and not _loads_modules(frame):
            raise KeyboardInterrupt


class _ProgramInterrupt(Interrupt):
    """Ctrl-C outside of `interruptible`."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        if _loads_modules(frame):
            end_at_once()
        super().handle(number, frame)

    def handle_dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        """End the program where a callback has dropped the KeyboardInterrupt."""
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(dropped)
        elif signal.getsignal(signal.SIGINT) == self.handle:
            end_at_once()


_PROGRAM = _ProgramInterrupt()


def _loads_modules(frame: FrameType | None) -> bool:
    """Whether a frame runs for an import statement."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


def end_at_once(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """End the process without running anything else; a handler of the signal."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # Whatever it is: closed, or in the middle of a write.
            stream.flush()
    os._exit(INTERRUPTED)


def _show_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show an uncaught error, unless Ctrl-C made it. A callback that Cython compiled, such as those
    of PyAV, prints what it drops in this way."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def handle_interrupts() -> None:
    """Handle Ctrl-C from now on, in the main thread of a program."""
    signal.signal(signal.SIGINT, _PROGRAM.handle)
    sys.unraisablehook = _PROGRAM.handle_dropped
    sys.excepthook = _show_error


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed outside of `interruptible`."""
    return _PROGRAM.is_set()


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle Ctrl-C inside the block: its KeyboardInterrupt ends the block and goes no further."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Only the main thread may handle signals.
        return
    if was_interrupted():
        raise KeyboardInterrupt  # An earlier one was dropped.
    before = signal.signal(signal.SIGINT, interrupt.handle)
    try:
        yield interrupt
    except KeyboardInterrupt:
        if not interrupt.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, before)
