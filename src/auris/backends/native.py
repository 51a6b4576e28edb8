"""The native code (`native/` in the sources), where the package was built with a compiler.

One library without Python or torch inside, called with plain pointers. Its products are the same
bits as PyTorch's integer ones; its passes of a decoder are the same for a token whatever else is
in the pass.
"""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)

ABI = 5
"""Version of the interface in `native/auris_native.h` that this file is written for."""

NO_MEMORY = 1
"""Status of a call that got no memory."""

LANES = 16
"""Numbers that the native code takes at a time; the width of a head, and the channels of a stem,
have to be multiples."""


FORMATS = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
"""The native code's numbers for formats in memory; 0 stands for packed integers."""

HALF_FORMATS = (torch.bfloat16, torch.float16)
"""Formats of weights that are used as they are stored."""


class _Library(NamedTuple):
    """The library, or why there is none."""

    library: ctypes.CDLL | None
    missing: str


class MatrixStruct(ctypes.Structure):
    """A matrix, packed or in a 16-bit format."""

    _fields_ = [
        ("codes", c_void_p),
        ("steps", c_void_p),
        ("lower", c_void_p),
        ("lower_norm", c_void_p),
        ("scale", c_void_p),
        ("rows", c_int32),
        ("width", c_int32),
        ("columns", c_int32),
        ("group", c_int32),
        ("format", c_int32),
    ]


class DecoderLayerStruct(ctypes.Structure):
    """Norms and matrices of a decoder's layer."""

    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "q_norm", "k_norm", "ffn_norm")),
        *((name, MatrixStruct) for name in ("qkv", "out", "gate_up", "down")),
    ]


class DecoderStruct(ctypes.Structure):
    """All layers of a decoder."""

    _fields_ = [
        ("layers", POINTER(DecoderLayerStruct)),
        ("norm", c_void_p),
        *((n, c_int32) for n in ("layer_count", "hidden", "heads", "kv_heads", "head_dim", "ffn")),
        ("eps", c_float),
    ]


class EncoderLayerStruct(ctypes.Structure):
    """Norms, biases and matrices of an encoder's layer."""

    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "attention_norm_bias")),
        *((name, c_void_p) for name in ("ffn_norm", "ffn_norm_bias")),
        *((f"{name}_bias", c_void_p) for name in ("qkv", "out", "up", "down")),
        *((name, MatrixStruct) for name in ("qkv", "out", "up", "down")),
    ]


class EncoderStruct(ctypes.Structure):
    """All layers of an encoder."""

    _fields_ = [
        ("layers", POINTER(EncoderLayerStruct)),
        *((name, c_void_p) for name in ("norm", "norm_bias")),
        *((name, c_int32) for name in ("layer_count", "width", "heads", "ffn")),
        ("eps", c_float),
    ]


class StemStruct(ctypes.Structure):
    """The convolutions of a stem; the first one is not packed."""

    _fields_ = [
        *((name, c_void_p) for name in ("first", "first_bias", "second_bias", "third_bias")),
        *((name, MatrixStruct) for name in ("second", "third")),
        *((name, c_int32) for name in ("bins", "channels")),
    ]


class CacheStruct(ctypes.Structure):
    """Keys and values of a cache."""

    _fields_ = [
        ("keys", c_void_p),
        ("values", c_void_p),
        *((name, c_int64) for name in ("layer_stride", "row_stride", "head_stride")),
        ("format", c_int32),
    ]


class PassStruct(ctypes.Structure):
    """The tokens of one pass through a decoder."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "row", "position", "cosines", "sines")),
        *((name, c_void_p) for name in ("wanted", "states")),
        ("tokens", c_int32),
        ("wanted_count", c_int32),
    ]


class StepStruct(ctypes.Structure):
    """One new token for each of some rows."""

    _fields_ = [
        *((name, POINTER(c_int32)) for name in ("token", "row", "position")),
        *((name, c_void_p) for name in ("cosines", "sines")),
        *((name, c_int32) for name in ("count", "exact")),
    ]


class ChoiceStruct(ctypes.Structure):
    """A best token; see `best`."""

    _fields_ = [
        ("token", c_int32),
        ("logprob", c_float),
        ("margin", c_float),
        ("read", c_int32),
    ]


ARGUMENTS = {
    "auris_products": [POINTER(MatrixStruct), c_void_p, c_int64, c_void_p, c_int32],
    "auris_best": [
        *(POINTER(MatrixStruct), c_void_p, c_int64, c_int32),
        *(POINTER(ChoiceStruct), c_int32),
    ],
    "auris_decode": [
        *(POINTER(DecoderStruct), POINTER(MatrixStruct), POINTER(MatrixStruct)),
        *(POINTER(CacheStruct), POINTER(StepStruct), POINTER(ChoiceStruct), c_int32),
    ],
    "auris_extend": [POINTER(DecoderStruct), POINTER(CacheStruct), POINTER(PassStruct), c_int32],
    "auris_contextualize": [POINTER(EncoderStruct), *[c_void_p] * 2, c_int32, c_void_p, c_int32],
    "auris_convolve": [POINTER(StemStruct), c_void_p, *[c_int32] * 2, c_void_p, c_int32],
}
"""Of the functions that return a status."""


def call(function: str, *arguments: Any) -> None:
    """Call one of `ARGUMENTS` on as many threads as PyTorch uses.

    Raises:
        MemoryError: there was no memory for it.
        RuntimeError: it failed otherwise.
    """
    getattr(_built(), function)(*arguments, torch.get_num_threads())


def _check(status: int) -> None:
    if status == NO_MEMORY:
        raise MemoryError("the native code got no memory")
    if status:
        raise RuntimeError(f"the native code failed: {_built().auris_message().decode()}")


@cache
def _loaded() -> _Library:
    """Load the library; a warning says why if it cannot be used, once a process."""
    path = next((path for path in _paths() if path.exists()), None)
    if path is None:
        return _Library(None, "the package was built without a C++ compiler")
    try:
        return _Library(_opened(path), "")
    except (OSError, AttributeError) as error:
        # A system's own message may have several lines.
        reason = f"{path.name} cannot be loaded: {' '.join(str(error).split())}"
    _LOG.warning(
        "The native code is left out, and models on the CPU are slower (%s); "
        "install the package anew on this machine.",
        reason,
    )
    return _Library(None, reason)


def _paths() -> list[Path]:
    """Where the library may lie, as this Python names it."""
    return [Path(__file__).parents[1] / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]


def _opened(path: Path) -> ctypes.CDLL:
    """The library with the types of its functions.

    Raises:
        OSError: it cannot be loaded, or is of another version than this file.
        AttributeError: it lacks a function.
    """
    library = ctypes.CDLL(str(path))
    abi = library.auris_abi()
    if abi != ABI:
        raise OSError(f"its interface has version {abi}, and {ABI} is needed")
    library.auris_message.restype = c_char_p
    library.auris_instructions.restype = c_char_p
    library.auris_use.argtypes = [c_char_p]
    for name, arguments in ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _check
    return library


def available() -> bool:
    """Whether the native code is there and can be used."""
    return _loaded().library is not None


def missing() -> str:
    """Why the native code cannot be used; empty where it can."""
    return _loaded().missing


def _built() -> ctypes.CDLL:
    library = _loaded().library
    assert library is not None, missing()
    return library


def instructions() -> str:
    """The instructions in use: "amx", "avx512", "avx2", "neon" or "portable"."""
    return str(_built().auris_instructions().decode())


def use(name: str) -> bool:
    """Use other instructions, where the machine has them; returns whether it has."""
    return bool(_built().auris_use(name.encode()))


def pointers(*tensors: Tensor | None) -> list[int | None]:
    """Where tensors lie in memory; null for None."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


class Matrix:
    """A matrix as the native code sees it, which lives as long as its tensors here.

    Args:
        weight: packed, or [rows, width] in one of `HALF_FORMATS`, without a scale.
        scale, width, steps, lower, lower_norm: see `auris.checkpoints.packed_formats`.
    """

    def __init__(
        self,
        weight: Tensor,
        scale: Tensor | None,
        width: int,
        steps: Tensor | None = None,
        lower: Tensor | None = None,
        lower_norm: Tensor | None = None,
    ) -> None:
        tensors = (weight, steps, lower, lower_norm, scale)
        self.tensors = [t for t in tensors if t is not None]  # The struct points at them.
        assert all(t.is_contiguous() and t.device.type == "cpu" for t in self.tensors)
        rows, stored = weight.shape
        if scale is None:
            shape = (rows, width, stored, 0, FORMATS[weight.dtype])
            self.struct = MatrixStruct(*pointers(*tensors), *shape)
            return
        columns = stored if weight.dtype == torch.int8 else 2 * stored
        group = 0 if steps is None else columns // steps.shape[1]
        self.struct = MatrixStruct(*pointers(*tensors), rows, width, columns, group, 0)


def products(x: Tensor, matrix: Matrix) -> Tensor:
    """Float32 products [M, rows] of contiguous float32 x [M, width] with a matrix.

    Those with a packed matrix are the same bits on every instruction set. Those with a matrix in a
    16-bit format are float32 sums in an order that depends on nothing but the width: the same bits
    for any number of rows and of threads, and on AVX-512, AVX2 and NEON. Plain C++ rounds every
    product before it is added, and so gives other last digits.
    """
    out = torch.empty(len(x), matrix.struct.rows)
    call("auris_products", matrix.struct, x.data_ptr(), len(x), out.data_ptr())
    return out


def best(x: Tensor, matrix: Matrix, exact: bool) -> ctypes.Array[ChoiceStruct]:
    """The best rows of a matrix.

    Args:
        x: contiguous float32 [M, width].
        matrix: whose rows score x; one in halves is searched in two stages for a single x.
        exact: whether the log-probability and the margin of a single x are to be exact; else the
            former is off by 0.02 at most, and a margin of 8 or more may be larger. Those of several
            are.

    Returns:
        for each x the row with the largest product, the first where several are; its
        log-probability among all rows; what its product exceeds the next by; and how many rows
        were computed exactly.
    """
    choices = (ChoiceStruct * len(x))()
    call("auris_best", matrix.struct, x.data_ptr(), len(x), exact, choices)
    return choices
