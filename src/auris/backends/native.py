"""The native code (`native/` in the sources), where the package was built with a compiler.

One library without Python or torch inside, called with plain pointers. Its products are the same
bits as PyTorch's integer ones; its passes of a decoder are the same for a token whatever else is
in the pass.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "DecoderCall",
    "EncoderCall",
    "Matrix",
    "StemCall",
    "available",
    "best",
    "instructions",
    "missing",
    "products",
    "use",
]


_LOG = logging.getLogger(__name__)

ABI = 2
"""Version of the interface in `native/auris_native.h` that this file is written for."""

NO_MEMORY = 1
"""Status of a call that got no memory."""


class _HeadResult(NamedTuple):
    """The library, or why there is none."""

    library: ctypes.CDLL | None
    missing: str


class _Matrix(ctypes.Structure):
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
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "q_norm", "k_norm", "ffn_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "gate_up", "down")),
    ]


class _Decoder(ctypes.Structure):
    _fields_ = [
        ("layers", POINTER(_Layer)),
        ("norm", c_void_p),
        *((n, c_int32) for n in ("layer_count", "hidden", "heads", "kv_heads", "head_dim", "ffn")),
        ("eps", c_float),
    ]


class _EncoderLayer(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "attention_norm_bias")),
        *((name, c_void_p) for name in ("ffn_norm", "ffn_norm_bias")),
        *((f"{name}_bias", c_void_p) for name in ("qkv", "out", "up", "down")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "down")),
    ]


class _Encoder(ctypes.Structure):
    _fields_ = [
        ("layers", POINTER(_EncoderLayer)),
        *((name, c_void_p) for name in ("norm", "norm_bias")),
        *((name, c_int32) for name in ("layer_count", "width", "heads", "ffn")),
        ("eps", c_float),
    ]


class _Stem(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("first", "first_bias", "second_bias", "third_bias")),
        *((name, _Matrix) for name in ("second", "third")),
        *((name, c_int32) for name in ("bins", "channels")),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [
        ("keys", c_void_p),
        ("values", c_void_p),
        *((name, c_int64) for name in ("layer_stride", "row_stride", "head_stride")),
        ("bfloat16", c_int32),
    ]


class _Pass(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("x", "row", "position", "cosines", "sines")),
        *((name, c_void_p) for name in ("wanted", "states")),
        ("tokens", c_int32),
        ("wanted_count", c_int32),
    ]


ARGUMENTS = {
    "auris_products": [POINTER(_Matrix), c_void_p, c_int64, c_void_p, c_int32],
    "auris_best": [POINTER(_Matrix), c_void_p, c_int64, c_int32, *[c_void_p] * 4, c_int32],
    "auris_extend": [POINTER(_Decoder), POINTER(_Cache), POINTER(_Pass), c_int32],
    "auris_contextualize": [POINTER(_Encoder), *[c_void_p] * 2, c_int32, c_void_p, c_int32],
    "auris_convolve": [POINTER(_Stem), c_void_p, *[c_int32] * 2, c_void_p, c_int32],
}
"""Of the functions that return a status."""


def _check(status: int) -> None:
    """What a call returned.

    Raises:
        MemoryError: there was no memory for it.
        RuntimeError: it failed otherwise.
    """
    if status == NO_MEMORY:
        raise MemoryError("the native code got no memory")
    if status:
        raise RuntimeError(f"the native code failed: {_built().auris_message().decode()}")


@cache
def _found() -> _HeadResult:
    """The library, opened; where it cannot be used, a warning says why, once a process."""
    path = next((path for path in _paths() if path.exists()), None)
    if path is None:
        return _HeadResult(None, "the package was built without a C++ compiler")
    try:
        return _HeadResult(_opened(path), "")
    except (OSError, AttributeError) as error:
        # A system's own message may have several lines.
        reason = f"{path.name} cannot be loaded: {' '.join(str(error).split())}"
    _LOG.warning(
        "The native code is left out, and int8 and int4 are slower (%s); "
        "install the package anew on this machine.",
        reason,
    )
    return _HeadResult(None, reason)


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
    return _found().library is not None


def missing() -> str:
    """Why the native code cannot be used; empty where it can."""
    return _found().missing


def _built() -> ctypes.CDLL:
    library = _found().library
    assert library is not None, missing()
    return library


def instructions() -> str:
    """The instructions in use: "avx512", "avx2", "neon" or "portable"."""
    return str(_built().auris_instructions().decode())


def use(name: str) -> bool:
    """Use other instructions, where the machine has them; returns whether it has."""
    return bool(_built().auris_use(name.encode()))


class Matrix:
    """A packed matrix as the native code sees it, which lives as long as its tensors here."""

    def __init__(
        self,
        weight: Tensor,
        scale: Tensor,
        width: int,
        steps: Tensor | None = None,
        lower: Tensor | None = None,
        lower_norm: Tensor | None = None,
    ) -> None:
        tensors = (weight, steps, lower, lower_norm, scale)
        self.held = [t for t in tensors if t is not None]
        assert all(t.is_contiguous() and t.device.type == "cpu" for t in self.held)
        rows, stored = weight.shape
        columns = stored if weight.dtype == torch.int8 else 2 * stored
        group = 0 if steps is None else columns // steps.shape[1]
        places = (None if t is None else t.data_ptr() for t in tensors)
        self.struct = _Matrix(*places, rows, width, columns, group)


def products(x: Tensor, matrix: Matrix) -> Tensor:
    """Float32 products [M, rows] of contiguous float32 x [M, width] with a packed matrix."""
    out = torch.empty(len(x), matrix.struct.rows)
    _built().auris_products(
        matrix.struct, x.data_ptr(), len(x), out.data_ptr(), torch.get_num_threads()
    )
    return out


def best(x: Tensor, matrix: Matrix, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best rows of a matrix; no scores are kept.

    Args:
        x: contiguous float32 [M, width].
        matrix: whose rows score x; one in halves is searched in two stages for a single x.
        exact: whether the log-probability and the margin of a single x are to be exact; else the
            former is off by 0.02 at most, and a margin of 8 or more may be larger. Those of several
            are.

    Returns:
        int32 rows [M] with the largest products, the first where several are; their float32
        log-probabilities [M] among all rows; what their products exceed the next by [M]; and
        int32 counts [M] of the rows whose products were computed exactly.
    """
    tokens, read = torch.empty(2, len(x), dtype=torch.int32)
    logprobs, margins = torch.empty(2, len(x))
    given = (tokens, logprobs, margins, read)
    pointers = (tensor.data_ptr() for tensor in given)
    _built().auris_best(
        matrix.struct, x.data_ptr(), len(x), exact, *pointers, torch.get_num_threads()
    )
    return given


class DecoderCall:
    """All layers of a packed decoder.

    Args:
        layers: of each layer its attention norm, query norm, key norm and feed-forward norm,
            contiguous float32, and its matrices: queries, keys and values; out; gate and up; down.
        norm: behind the last layer.
        heads, kv_heads, head_dim, ffn, eps: shapes; head_dim is a multiple of 16.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Sequence[Tensor], Sequence[Matrix]]],
        norm: Tensor,
        heads: int,
        kv_heads: int,
        head_dim: int,
        ffn: int,
        eps: float,
    ) -> None:
        self.held = layers, norm
        structs = [
            _Layer(*(n.data_ptr() for n in norms), *(matrix.struct for matrix in matrices))
            for norms, matrices in layers
        ]
        self.hidden = len(norm)
        self.layers = (_Layer * len(structs))(*structs)
        shapes = (len(structs), self.hidden, heads, kv_heads, head_dim, ffn)
        self.struct = _Decoder(self.layers, norm.data_ptr(), *shapes, eps)

    def extend(
        self,
        x: Tensor,
        places: Sequence[tuple[int, int]],
        rope: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        wanted: Sequence[int],
    ) -> Tensor:
        """Run tokens through all layers and put their keys and values into a cache.

        Args:
            x: contiguous float32 embeddings [T, hidden], which are used up.
            places: row and position of every token; those of a row stand together, in order.
            rope: cosines and sines [positions, head_dim / 2], contiguous float32.
            keys, values: [layers, rows, kv_heads, capacity, head_dim], contiguous, in bfloat16
                or float32.
            wanted: tokens whose states are asked for.

        Returns:
            normed states [len(wanted), hidden].
        """
        states = torch.empty(len(wanted), self.hidden)
        index = torch.tensor([*zip(*places, strict=True)], dtype=torch.int32)
        ends = torch.tensor(wanted, dtype=torch.int32)
        bfloat16 = keys.dtype == torch.bfloat16
        cache = _Cache(keys.data_ptr(), values.data_ptr(), *keys.stride()[:3], bfloat16)
        given = (x, index[0], index[1], *rope, ends, states)
        pointers = (tensor.data_ptr() for tensor in given)
        native_pass = _Pass(*pointers, len(x), len(wanted))
        _built().auris_extend(self.struct, cache, native_pass, torch.get_num_threads())
        return states


class EncoderCall:
    """All layers of a packed audio encoder.

    Args:
        layers: of each layer the weight and bias of its attention norm and of its feed-forward
            norm, and the biases of its matrices; and these: queries, keys and values; out; up;
            down. Contiguous float32; None for the bias of an RMSNorm.
        norm: weight and bias of the norm behind the last layer.
        heads, ffn, eps: shapes; the width of a head is a multiple of 16.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Sequence[Tensor | None], Sequence[Matrix]]],
        norm: Sequence[Tensor | None],
        heads: int,
        ffn: int,
        eps: float,
    ) -> None:
        self.held = layers, norm
        structs = [
            _EncoderLayer(*map(_place, tensors), *(matrix.struct for matrix in matrices))
            for tensors, matrices in layers
        ]
        self.layers = (_EncoderLayer * len(structs))(*structs)
        shapes = (len(structs), layers[0][1][0].struct.width, heads, ffn)
        self.struct = _Encoder(self.layers, *map(_place, norm), *shapes, eps)

    def encode_layers(self, x: Tensor, windows: Sequence[int]) -> Tensor:
        """Run tokens through all layers.

        Args:
            x: contiguous float32 [N, width], which is used up.
            windows: where each window begins, and N: tokens attend inside of theirs.

        Returns:
            normed states [N, width].
        """
        states = torch.empty_like(x)
        bounds = torch.tensor(windows, dtype=torch.int32)
        _built().auris_contextualize(
            self.struct,
            x.data_ptr(),
            bounds.data_ptr(),
            len(bounds) - 1,
            states.data_ptr(),
            torch.get_num_threads(),
        )
        return states


class StemCall:
    """The three convolutions of a stem, the last two packed.

    Args:
        first: weights [9, channels] of the first, tap by tap; channels are a multiple of 16.
        biases: [channels] of all three. These are contiguous float32.
        packed: the others, [channels, 9 channels], tap by tap.
        bins: of a mel.
    """

    def __init__(
        self, first: Tensor, biases: Sequence[Tensor], packed: Sequence[Matrix], bins: int
    ) -> None:
        self.held = first, biases, packed
        self.shape = -(-bins // 8), first.shape[1]
        places = (tensor.data_ptr() for tensor in (first, *biases))
        self.struct = _Stem(*places, *(m.struct for m in packed), bins, first.shape[1])

    def convolve(self, mels: Tensor) -> Tensor:
        """Chunks [C, bins, frames], contiguous float32, to [C, tokens, bins / 8, channels]."""
        count, _, frames = mels.shape
        out = torch.empty(count, -(-frames // 8), *self.shape)
        _built().auris_convolve(
            self.struct, mels.data_ptr(), count, frames, out.data_ptr(), torch.get_num_threads()
        )
        return out


def _place(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
