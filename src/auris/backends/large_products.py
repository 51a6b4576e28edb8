"""Large products of integers by PyTorch, where the processor has AMX.

The native code has no kernels for the matrix tiles of AMX; oneDNN, which PyTorch calls, has. The
native code quantizes activations and scales the sums, which are exact whoever computes them, so the
results are the same bits. Every thread of the native code computes a part of a product: threads of
OpenMP would go on spinning for milliseconds on the processors that the native code needs next.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, c_int8, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from auris.errors import UnsupportedOption

LEAST_POSITIONS = 64
"""Fewest positions of a pass whose products go to PyTorch. For fewer, the call would cost more than
AMX saves. Estimated, not measured."""

VARIABLE = "AURIS_INT_MM"

PROCESSOR = Path("/proc/cpuinfo")


def chosen() -> bool:
    """Whether PyTorch is to compute large products.

    The variable decides with 1 or 0; else the processor does.

    Raises:
        UnsupportedOption: the variable is neither.
    """
    given = os.environ.get(VARIABLE, "")
    if given not in {"", "0", "1"}:
        raise UnsupportedOption(
            f"{VARIABLE} has to be 1 (large products of integers by PyTorch) or 0 (by native code)",
            f"it is {given!r}",
            "set one of these, or leave it unset",
        )
    if given:
        return given == "1"
    return _has_amx() and torch.backends.mkldnn.is_available() and _openmp() is not None


def _has_amx() -> bool:
    """Whether the processor, and the kernel of Linux, have tiles of 8-bit integers."""
    return {"amx_tile", "amx_int8"} <= _flags(PROCESSOR)


def has_fast_products() -> bool:
    """Whether PyTorch multiplies 8-bit integers by oneDNN here, which it does with AVX-512 VNNI."""
    return torch.backends.mkldnn.is_available() and "avx512_vnni" in _flags(PROCESSOR)


@cache
def _flags(processor: Path) -> frozenset[str]:
    """What the processor can do, by a file of Linux; empty on other systems."""
    try:
        lines = processor.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), []))


@cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP that PyTorch uses; None where it cannot be called."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        library.omp_get_max_threads.restype = ctypes.c_int
        library.omp_set_num_threads.argtypes = [ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return library


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let this thread compute alone what OpenMP would share out; others are not affected."""
    openmp = _openmp()
    threads = torch.get_num_threads()  # PyTorch sets it in a new thread at its first use there.
    if openmp is None or threads == 1:
        yield
        return
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(threads)


_FAILURES: list[BaseException] = []
"""What products of the call that is running have raised; one call runs at a time."""


def raise_failure() -> None:
    """Raise what a product of the last call has raised, if one has: it cannot cross native code."""
    failures = [*_FAILURES]
    _FAILURES.clear()
    if failures:
        raise failures[0]


def _multiply(
    codes: int, count: int, stride: int, weights: int, rows: int, columns: int, out: int
) -> int:
    """out [count, rows] = codes [count, columns] times weights [rows, columns], transposed.

    Codes and weights are int8 and the sums int32, by their addresses; rows of codes lie `stride`
    apart. Returns 1, or 0 where that failed (`auris_multiplier` of the native code).
    """
    try:
        last = (count - 1) * stride + columns  # What lies behind may be no memory of the codes.
        x = _tensor(codes, c_int8, last).as_strided((count, columns), (stride, 1))
        matrix = _tensor(weights, c_int8, rows * columns).view(rows, columns)
        sums = _tensor(out, c_int32, count * rows).view(count, rows)
        with _one_thread():
            torch._int_mm(x, matrix.t(), out=sums)
    except BaseException as error:  # None may cross native code, Ctrl-C included.
        _FAILURES.append(error)
        return 0
    return 1


def _tensor(address: int, kind: type[c_int8 | c_int32], count: int) -> Tensor:
    """Numbers in memory of the native code."""
    dtype = torch.int8 if kind is c_int8 else torch.int32
    return torch.frombuffer((kind * count).from_address(address), dtype=dtype)


FUNCTION = CFUNCTYPE(c_int32, c_void_p, *[c_int64] * 2, c_void_p, *[c_int64] * 2, c_void_p)
MULTIPLY = FUNCTION(_multiply)
"""For the native code, which calls it as long as the process runs."""

NONE = FUNCTION()
"""In its place where native code computes all products."""
