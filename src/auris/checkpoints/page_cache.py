"""Weight files in the page cache of Linux, in large pages.

A decode step reads all weights of the decoder, and is faster where they lie in pages of 2 MB, since
the processor looks up fewer addresses. Processes share these pages as they share small ones. What
is read while a model is loaded often lies in small pages, since that touches a file here and there.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from auris.models.pages import LARGE_PAGE

WINDOW = 32 * LARGE_PAGE
"""Bytes that are mapped at a time; mapped pages count as memory of the process."""


def read_in_large_pages(file: Path) -> None:
    """Read the parts of a file that are not in memory yet; does nothing outside Linux.

    Touching a page of a mapping that is meant for large pages reads all of that page (since about
    Linux 5.18; older ones read some of it). A file that cannot be opened or mapped is left to what
    loads it.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    with suppress(OSError, ValueError), file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        for first in range(0, size, WINDOW):
            count = min(WINDOW, size - first)
            with mmap.mmap(opened.fileno(), count, access=mmap.ACCESS_READ, offset=first) as window:
                window.madvise(mmap.MADV_HUGEPAGE)
                for offset in range(0, count, LARGE_PAGE):
                    window[offset]


def drop(file: IO[bytes]) -> None:
    """Bring what was written to a file to the disk, and remove it from the page cache.

    It is read in large pages later.

    Raises:
        OSError: it cannot be brought there.
    """
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # Only advice.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
