"""Weights in 8 and 4 bits: integers with one float32 scale per output channel.

Both formats mean the same kind of matrix, `integers [N, K] * scale [N, 1]` with integers in
-127..127, so that everything that multiplies them is exact integer arithmetic whatever the batch.

int8 stores the integers. int4 stores them as the product of a 4-bit code in -8..7 and a step in
1..15 that a group of columns shares: the step is what a group's own scale is in other 4-bit
formats, but being a whole number it leaves one scale per channel.

Columns are padded with zeros to whole blocks, 64 of them in int8 and 128 in int4. Byte j of a
4-bit block holds column j in its low half and column 64 + j in its high half, each plus 8.

A vocabulary's int8 integers lie in two halves: `weight` holds the upper four bits of each in 4-bit
blocks, `lower` the lower four bits (0..15) in the same order, and `lower_norm` the Euclidean norm
of every row's lower bits less 7.5. Scores of the upper halves then bound the complete ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

PackedDtype = Literal["int8", "int4"]

GROUPS = (32, 64, 128)
"""Columns that may share a step."""

BLOCK = {"int8": 64, "int4": 128}
"""Columns are stored in whole blocks of so many."""

LARGEST = 127
STEPS = 15
CODES = 7
"""Largest step, and largest code of either sign that the search aims at."""

SLICE = 1 << 22
"""Weights that are searched at once, about: bounds the memory of quantizing a large matrix."""


@dataclass(frozen=True)
class Packing:
    """How one matrix is stored.

    Attributes:
        dtype: "int8" or "int4".
        group: columns that share a step in int4; not used in int8.
        halves: whether int8 integers lie in two halves.
    """

    dtype: PackedDtype
    group: int = 32
    halves: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in get_args(PackedDtype) or self.group not in GROUPS:
            raise ValueError(f"there is no packing {self.dtype!r} in groups of {self.group}")
        if self.halves and self.dtype != "int8":
            raise ValueError(f"there are no halves of {self.dtype!r}")

    def columns(self, width: int) -> int:
        """Stored columns of a matrix `width` wide."""
        block = BLOCK["int4" if self.halves else self.dtype]
        return -(-width // block) * block


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as the matrix [rows, columns] that is packed: a convolution's [out, in, height,
    width] has the columns of each tap side by side."""
    return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def packed_shapes(
    rows: int, width: int, packing: Packing
) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Types and shapes of the tensors that `pack` gives for a matrix [rows, width]."""
    columns = packing.columns(width)
    if packing.halves:
        shapes = {
            "weight": (torch.uint8, [rows, columns // 2]),
            "lower": (torch.uint8, [rows, columns // 2]),
            "lower_norm": (torch.float32, [rows]),
        }
    elif packing.dtype == "int8":
        shapes = {"weight": (torch.int8, [rows, columns])}
    else:
        shapes = {
            "weight": (torch.uint8, [rows, columns // 2]),
            "steps": (torch.uint8, [rows, columns // packing.group]),
        }
    return {**shapes, "scale": (torch.float32, [rows])}


def pack(weight: Tensor, packing: Packing) -> dict[str, Tensor]:
    """Quantize a matrix.

    Args:
        weight: [N, K], finite, of any floating type; a slice of its rows at a time is widened.

    Returns:
        the tensors of `packed_shapes`, by name.
    """
    rows, width = weight.shape
    shapes = packed_shapes(rows, width, packing)
    packed = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in shapes.items()}
    # A slice makes about six float32 copies of itself; a quarter of the tensor is never passed.
    most = max(1, min(SLICE // max(width, 1), -(-rows // 8)))
    for first in range(0, rows, most):
        part = weight[first : first + most].float()
        part = F.pad(part, (0, packing.columns(width) - width))
        given = _int8(part) if packing.dtype == "int8" else _int4(part, packing.group)
        if packing.halves:
            given = {**_halves(given["weight"], width), "scale": given["scale"]}
        for name, tensor in given.items():
            packed[name][first : first + most] = tensor
    return packed


def _scale(largest: Tensor, limit: int) -> Tensor:
    """Scales [N] at which `largest` [N, 1] becomes `limit`; a row of zeros has scale 1."""
    scale: Tensor = torch.where(largest > 0, largest / limit, 1.0)
    return scale[:, 0]


def _int8(weight: Tensor) -> dict[str, Tensor]:
    scale = _scale(weight.abs().amax(1, keepdim=True), LARGEST)
    codes = (weight / scale[:, None]).round().clamp(-LARGEST, LARGEST)
    return {"weight": codes.to(torch.int8), "scale": scale}


def _halves(values: Tensor, width: int) -> dict[str, Tensor]:
    wide = values.to(torch.int16)
    upper, lower = (wide >> 4) + 8, wide & 15
    norm = (lower[:, :width].float() - 7.5).norm(dim=1)
    return {"weight": _blocks(upper), "lower": _blocks(lower), "lower_norm": norm}


def _blocks(codes: Tensor) -> Tensor:
    """Codes [N, columns] in 0..15 as bytes [N, columns / 2]."""
    halves = codes.to(torch.uint8).unflatten(1, (-1, 2, BLOCK["int4"] // 2))
    packed: Tensor = (halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1)
    return packed


def _codes(packed: Tensor) -> Tensor:
    """Codes int8 [N, columns] in 0..15 of `_blocks`."""
    blocks = packed.unflatten(1, (-1, BLOCK["int4"] // 2))
    return torch.stack([blocks & 15, blocks >> 4], 2).to(torch.int8).flatten(1)


def _int4(weight: Tensor, group: int) -> dict[str, Tensor]:
    """Steps by trial: of each group's exact step, the next ones below and above, the best.

    The scale leaves the widest group the largest step; a group whose values are all small has a
    step of at least 1.
    """
    groups = weight.unflatten(1, (-1, group))
    largest = groups.abs().amax(2, keepdim=True)
    scale = _scale(largest.amax(1), STEPS * CODES)
    scaled = groups / scale[:, None, None]
    exact = largest / scale[:, None, None] / CODES
    best = torch.full_like(exact, torch.inf)
    steps, codes = torch.ones_like(exact), torch.zeros_like(scaled)
    for trial in (exact.floor() - 1, exact.floor(), exact.ceil()):
        step = trial.clamp(1, STEPS)
        code = (scaled / step).round().clamp(-CODES - 1, CODES)
        error = (code * step - scaled).square().sum(2, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        steps = torch.where(better, step, steps)
        codes = torch.where(better, code, codes)
    packed = _blocks((codes + 8).flatten(1))
    return {"weight": packed, "steps": steps[:, :, 0].to(torch.uint8), "scale": scale}


def integers(weight: Tensor, steps: Tensor | None = None, lower: Tensor | None = None) -> Tensor:
    """The int8 integers [N, columns] of a packed matrix; of a plain int8 one its own."""
    if lower is not None:
        return (_codes(weight) - 8) * 16 + _codes(lower)
    if steps is None:
        return weight
    codes = (_codes(weight) - 8).unflatten(1, (steps.shape[1], -1))
    values: Tensor = (codes * steps[:, :, None].to(torch.int8)).flatten(1)
    return values
