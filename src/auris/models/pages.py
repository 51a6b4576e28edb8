"""Pages of memory: large ones for large tensors, and mapped ones that are given back."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

LARGE_PAGE = 2 << 20
"""Bytes of a large page, on most processors."""

LARGE_TENSOR = 8 << 20
"""Bytes of a tensor from which on it lies in large pages."""


def advise(start: int, size: int, page: int, advice: int) -> None:
    """Give the system advice for the whole pages of `page` bytes in memory of this process.

    Where it has no madvise, or does not take the advice, nothing happens.
    """
    try:
        madvise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return
    first = -(-start // page) * page
    last = (start + size) // page * page
    if last > first:
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice)


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; a large tensor on the CPU lies in large pages where Linux has them."""
    tensor = torch.empty(tuple(shape), dtype=dtype, device=device)
    if device.type == "cpu" and tensor.nbytes >= LARGE_TENSOR and hasattr(mmap, "MADV_HUGEPAGE"):
        # Memory that was used before lies in small pages, so these are given back.
        for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTNEED):
            advise(tensor.data_ptr(), tensor.nbytes, LARGE_PAGE, advice)
    return tensor.zero_()


def release(tensor: Tensor) -> None:
    """Give the pages of a mapped tensor back to the system; reading them again maps them anew.

    Only whole pages inside the tensor are touched. Mappings are private and never written, so
    nothing can be lost. Where the system has no madvise, the pages stay until it wants them.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        advise(tensor.data_ptr(), tensor.nbytes, mmap.PAGESIZE, mmap.MADV_DONTNEED)
