"""Priorities of threads: work that takes long makes room for answers that do not."""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["lower_this_thread"]


def lower_this_thread(niceness: int) -> None:
    """Give the calling thread, and processes that it starts, a lower priority.

    Linux has priorities of threads; elsewhere nothing happens.

    Args:
        niceness: 0 to 19; 0 changes nothing.
    """
    if sys.platform == "linux" and niceness:
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(now + niceness, 19))
