"""Signals that end a run after the step in progress, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM)

NOTICE = b"\nStopping after this step; a second Ctrl-C stops at once.\n"


class StopSignals:
    """SIGINT and SIGTERM while a run is in progress.

    The first signal is only recorded: the training loop ends after its step. The second ends the
    process with exit code 128 plus its number.

    Args:
        announce: whether to write a notice to standard error after the first signal.
    """

    def __init__(self, announce: bool = True) -> None:
        self.received = 0
        self._announce = announce

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals inside the block; without effect outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise SystemExit(128 + number)
        self.received = number
        if self._announce:
            os.write(2, NOTICE)  # Not print: the signal may interrupt another print.


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals while worker processes are started: they inherit the mask.

    torch gives a new worker a handler with which SIGTERM ends it, before it calls `defer_signals`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def defer_signals(worker: int) -> None:
    """Let a worker process ignore the first signal, since the step in progress needs its batches.

    Ctrl-C and many process managers signal a whole group of processes. The worker was started with
    `signals_blocked`. `worker` is its number, an argument of torch's loader.
    """
    for number in HANDLED:
        signal.signal(number, _ignore_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    """Ignore a signal once, and restore its default action."""
    signal.signal(number, signal.SIG_DFL)
