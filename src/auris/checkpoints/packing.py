"""Weights in 8 and 4 bits: integers with one float32 scale per output channel.

Both formats mean the same kind of matrix, `integers [N, K] * scale [N, 1]` with integers in
-127..127, so that everything that multiplies them is exact integer arithmetic whatever the batch.

int8 stores the integers. int4 stores them as the product of a 4-bit code in -8..7 and a step in
1..15 that a group of columns shares: the step is what a group's own scale is in other 4-bit
formats, but being a whole number it leaves one scale per channel.

Columns are padded with zeros to whole blocks, 64 of them in int8 and 128 in int4. Byte j of a
4-bit block holds column j in its low half and column 64 + j in its high half, each plus 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["GROUPS", "PackedDtype", "Packing", "integers", "pack", "packed_shapes"]

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
    """

    dtype: PackedDtype
    group: int = 32

    def __post_init__(self) -> None:
        if self.dtype not in get_args(PackedDtype) or self.group not in GROUPS:
            raise ValueError(f"there is no packing {self.dtype!r} in groups of {self.group}")

    def columns(self, width: int) -> int:
        """Stored columns of a matrix `width` wide."""
        block = BLOCK[self.dtype]
        return -(-width // block) * block


def packed_shapes(
    rows: int, width: int, packing: Packing
) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Types and shapes of the tensors that `pack` gives for a matrix [rows, width]."""
    columns = packing.columns(width)
    if packing.dtype == "int8":
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
        for name, tensor in given.items():
            packed[name][first : first + most] = tensor
    return packed


def _scale(largest: Tensor, reach: int) -> Tensor:
    """Scales [N] at which `largest` [N, 1] becomes `reach`; a row of zeros has scale 1."""
    scale: Tensor = torch.where(largest > 0, largest / reach, 1.0)
    return scale[:, 0]


def _int8(weight: Tensor) -> dict[str, Tensor]:
    scale = _scale(weight.abs().amax(1, keepdim=True), LARGEST)
    codes = (weight / scale[:, None]).round().clamp(-LARGEST, LARGEST)
    return {"weight": codes.to(torch.int8), "scale": scale}


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
    halves = (codes + 8).to(torch.uint8).flatten(1).unflatten(1, (-1, 2, BLOCK["int4"] // 2))
    nibbles = halves[:, :, 0] | halves[:, :, 1] << 4
    return {"weight": nibbles.flatten(1), "steps": steps[:, :, 0].to(torch.uint8), "scale": scale}


def integers(weight: Tensor, steps: Tensor | None) -> Tensor:
    """The int8 integers [N, columns] of a packed matrix; of an int8 one its own."""
    if steps is None:
        return weight
    blocks = weight.unflatten(1, (-1, BLOCK["int4"] // 2))
    halves = torch.stack([blocks & 15, blocks >> 4], 2).to(torch.int8) - 8
    codes = halves.flatten(1).unflatten(1, (steps.shape[1], -1))
    whole: Tensor = (codes * steps[:, :, None].to(torch.int8)).flatten(1)
    return whole
