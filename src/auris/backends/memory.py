"""Memory of devices: the lack of it as one error, and blocks that are used again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from auris.errors import DeviceError

OUT_OF_MEMORY = re.compile(
    r"\bout of memory\b|[Cc]an(?:'t|not) allocate memory|not enough memory"
    r"|CU(?:BLAS|DNN|FFT|SPARSE)_STATUS_ALLOC_FAILED"
)
"""Messages of a plain RuntimeError of torch where a device has no room: of the CPU's allocator, of
MPS and of CUDA's libraries. Other errors name memory, too ("illegal memory access")."""

LARGEST_FREED_BYTES = 31 << 20


@contextmanager
def within_memory() -> Iterator[None]:
    """Turn the errors of all devices for a lack of memory into one of ours.

    Raises:
        DeviceError: the model, or the batch, does not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        message = str(error).partition("\n")[0]
        raise DeviceError(
            "There is not enough memory for the model and its batch"
            f" ({message or 'memory is full'})",
            "",
            "choose a smaller --batch-size, --max-new-tokens or --chunk-seconds, or another device",
        ) from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or bool(
        OUT_OF_MEMORY.search(str(error))
    )


def keep_freed_memory() -> None:
    """Let glibc keep blocks of up to 31 MB for the next ones, instead of giving them back.

    It keeps what is not larger than the largest block it has seen come and go, 32 MB at most; the
    one here is never touched, so it takes no memory. Without it every activation of the encoder's
    stem is made of fresh pages, whose clearing takes a fifth of the stem's time.
    """
    torch.empty(LARGEST_FREED_BYTES, dtype=torch.uint8)
