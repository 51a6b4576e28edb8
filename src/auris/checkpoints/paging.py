"""Pages of mapped files."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from torch import Tensor

__all__ = ["release_pages"]


def release_pages(tensor: Tensor) -> None:
    """Give the pages of a mapped tensor back to the system; reading them again maps them anew.

    Only whole pages inside the tensor are touched. Mappings are private and never written, so
    nothing can be lost. Where the system has no madvise, the pages stay until it wants them.
    """
    advise = _madvise()
    size = tensor.numel() * tensor.element_size()
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if advise is not None and last > first:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def _madvise() -> Callable[..., int] | None:
    if not hasattr(mmap, "MADV_DONTNEED"):
        return None
    try:
        function: Callable[..., int] = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return None
    return function
