"""Modules of packed weights.

The activations of every row (a token; before a convolution a conv block) are quantized to
8 bits by the row's own largest value, so that a row never depends on its neighbours. Sums of
products are whole numbers, hence exact: the native code and PyTorch give the same bits for the
same input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auris.backends import devices, native
from auris.checkpoints.packed_formats import Packing, integers, packed_shapes

LARGEST = 127.0


GELU_DEPTH = 0.17
"""No value of GELU lies deeper below zero."""

LEAST_SIZE = 1e-30
"""Rows of smaller numbers count as zeros: the inverse of these may be no number."""


def quantize_rows(x: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rows as integers with a scale each.

    Args:
        x: float32 [M, K].
        least: what the largest number of a row counts as at least.

    Returns:
        int8 [M, K] in -127..127, and scales [M, 1]; a row of zeros has scale 0.
    """
    largest = x.abs().amax(1, keepdim=True).clamp(min=least)
    # A number over a tensor would be its reciprocal, rounded, times the number.
    inverse = torch.full_like(largest, LARGEST) / largest
    codes = (x * torch.where(largest > LEAST_SIZE, inverse, 0.0)).round()
    return codes.to(torch.int8), largest / LARGEST


EXACT_COLUMNS = 1024
"""Columns whose products, each of two numbers up to 127, float32 sums without rounding."""


def integer_products(codes: Tensor, integers: Tensor) -> Tensor:
    """Exact products [M, N] of int8 [M, K] and [N, K], both in -127..127, as int32.

    PyTorch has a plain loop for products of integers where the processor lacks instructions for
    them, a hundred times slower than its product in float32.
    """
    if devices.multiplies_integers():
        return torch._int_mm(codes, integers.t())
    sums = torch.zeros(len(codes), len(integers), dtype=torch.int32)
    for begin in range(0, codes.shape[1], EXACT_COLUMNS):
        part = slice(begin, begin + EXACT_COLUMNS)
        sums += (codes[:, part].float() @ integers[:, part].float().t()).to(torch.int32)
    return sums


class Packed(nn.Module):
    """A packed matrix [rows, width]; see `auris.checkpoints.packed_formats`."""

    def __init__(self, rows: int, width: int, packing: Packing) -> None:
        super().__init__()
        self.rows, self.width, self.packing = rows, width, packing
        for name in ("steps", "lower", "lower_norm"):
            self.register_parameter(name, None)
        for name, (dtype, shape) in packed_shapes(rows, width, packing).items():
            empty = torch.empty(shape, dtype=dtype, device="meta")
            self.register_parameter(name, nn.Parameter(empty, requires_grad=False))

    weight: Tensor
    scale: Tensor
    steps: Tensor | None
    lower: Tensor | None
    lower_norm: Tensor | None

    @property
    def integers(self) -> Tensor:
        """int8 [rows, columns]."""
        return integers(self.weight, self.steps, self.lower)

    @property
    def matrix(self) -> native.Matrix:
        """The same tensors for the native code."""
        return native.Matrix(
            self.weight, self.scale, self.width, self.steps, self.lower, self.lower_norm
        )

    def products(self, x: Tensor) -> Tensor:
        """Products [..., rows] of x [..., width] with the matrix, in x's dtype."""
        rows = x.reshape(-1, self.width).float()
        if native.available():
            out = native.products(rows.contiguous(), self.matrix)
        else:
            codes, scales = quantize_rows(rows)
            values = self.integers
            codes = F.pad(codes, (0, values.shape[1] - self.width))
            out = integer_products(codes, values).float() * (scales * self.scale)
        return out.to(x.dtype).reshape(*x.shape[:-1], self.rows)


class PackedLinear(Packed):
    """`nn.Linear` of a packed matrix."""

    def __init__(self, linear: nn.Linear, packing: Packing) -> None:
        super().__init__(linear.out_features, linear.in_features, packing)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., rows]."""
        out = self.products(x)
        return out if self.bias is None else out.add_(self.bias)


class PackedEmbedding(Packed):
    """`auris.models.layers.TokenEmbedding` of a packed matrix."""

    def __init__(self, embedding: nn.Embedding, packing: Packing) -> None:
        super().__init__(embedding.num_embeddings, embedding.embedding_dim, packing)

    def forward(self, ids: Tensor) -> Tensor:
        """Float32 vectors [..., width] of ids."""
        rows = ids.flatten()
        steps, lower = (None if t is None else t[rows] for t in (self.steps, self.lower))
        values = integers(self.weight[rows], steps, lower)[:, : self.width]
        vectors = values.float() * self.scale[rows, None]
        return vectors.reshape(*ids.shape, self.width)

    def scores(self, states: Tensor) -> Tensor:
        """Products [..., rows] of states [..., width] with every vector."""
        return self.products(states)


class PackedConv(Packed):
    """`nn.Conv2d` of 3 x 3 taps and stride 2 as the product of patches with a packed matrix.

    Its input is GELU's. The numbers of a conv block are quantized by the largest of them, and
    by 0.17 at least, below which none lies, so that a block never depends on its neighbours.
    """

    def __init__(self, conv: nn.Conv2d, packing: Packing) -> None:
        taps = conv.kernel_size[0] * conv.kernel_size[1]
        super().__init__(conv.out_channels, taps * conv.in_channels, packing)
        self.padding = conv.padding  # For `Stem.input_frames`.
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """[C, channels, H, W] -> [C, rows, ceil(H / 2), ceil(W / 2)], block by block."""
        return torch.cat([self._block(block) for block in x.split(1)])

    def _block(self, x: Tensor) -> Tensor:
        codes, scales = quantize_rows(x.float().flatten(1), least=GELU_DEPTH)
        # Codes are whole numbers that float32 holds exactly.
        patches = F.unfold(codes.view(x.shape).float(), 3, padding=1, stride=2).transpose(1, 2)
        rows = patches.unflatten(2, (x.shape[1], 9)).transpose(2, 3).flatten(0, 1).flatten(1)
        values = self.integers
        padded = F.pad(rows.to(torch.int8), (0, values.shape[1] - self.width))
        out = integer_products(padded, values).unflatten(0, patches.shape[:2]).float()
        out = out * (scales[:, :, None] * self.scale) + self.bias
        height, width = ((size + 1) // 2 for size in x.shape[2:])
        image: Tensor = out.transpose(1, 2).unflatten(2, (height, width)).to(x.dtype)
        return image


def swap(model: nn.Module, packing: Callable[[str], Packing | None]) -> None:
    """Replace the modules whose weights are packed by modules without memory, to be filled.

    Args:
        model: changed in place.
        packing: of a module by its name, or None where it stays.
    """
    for name, module in list(model.named_modules()):
        packed = packing(name)
        if packed is None:
            continue
        parent, _, child = name.rpartition(".")
        if isinstance(module, nn.Embedding):
            new: nn.Module = PackedEmbedding(module, packed)
        elif isinstance(module, nn.Conv2d):
            new = PackedConv(module, packed)
        else:
            assert isinstance(module, nn.Linear), f"{name} cannot be packed"
            new = PackedLinear(module, packed)
        setattr(model.get_submodule(parent), child, new)
