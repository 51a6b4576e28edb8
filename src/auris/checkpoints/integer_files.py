"""Directories whose integers other programs packed: those of MLX, GPTQ and AWQ.

Each has matrices as integers of 4 or 8 bits, with a scale and an offset for a group of columns. The
tensors that they mean are computed here, in float32 and without loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from auris.checkpoints.configs import read_json
from auris.checkpoints.layouts import MLX_PREFIX, is_mlx_convolution
from auris.checkpoints.weight_files import Files, WeightFiles
from auris.errors import CheckpointError

BITS = (4, 8)
WORD = 32
WORDS = ("I32", "U32")
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Which of the 4-bit integers of a word belongs to each of its eight columns."""

Method = Literal["mlx", "gptq", "awq"]


@dataclass(frozen=True)
class IntegerFormat:
    """How a directory is packed.

    Attributes:
        method: by which program.
        bits: of an integer; those of MLX follow from the shapes and groups.
        zero_shift: what is added to the stored offsets (GPTQ).
        group: columns that share a scale (MLX).
        groups: the same of single modules (MLX).
    """

    method: Method
    bits: int = 4
    zero_shift: int = 0
    group: int = 64
    groups: Mapping[str, int] = field(default_factory=dict)


def read_integer_format(directory: Path) -> IntegerFormat | None:
    """The format that a config.json names; None where it names none of another program.

    Raises:
        CheckpointError: it names one that cannot be read.
    """
    content = read_json(directory / "config.json")
    given = content.get("quantization")
    if isinstance(given, Mapping) and {"bits", "group_size"} <= set(given):
        mode = given.get("mode", "affine")
        if mode != "affine":
            raise _unknown(directory, f"the mode {mode!r} of MLX")
        groups = {
            module: int(one["group_size"])
            for module, one in given.items()
            if isinstance(one, Mapping) and isinstance(one.get("group_size"), int)
        }
        group = given.get("group_size", 64)
        if type(group) is not int or group <= 0:
            raise _unknown(directory, f"groups of {group!r} columns")
        return IntegerFormat("mlx", _bits(directory, given["bits"]), group=group, groups=groups)
    given = content.get("quantization_config")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise _unknown(directory, repr(given)[:60])
    method = given.get("quant_method")
    bits = given.get("bits", given.get("w_bit"))
    if method == "gptq":
        shift = 0 if given.get("checkpoint_format") == "gptq_v2" else 1
        return IntegerFormat("gptq", _bits(directory, bits), shift)
    if method == "awq":
        if given.get("version", "gemm") != "gemm":
            raise _unknown(directory, f"the version {given.get('version')!r} of AWQ")
        if bits != 4:
            raise _unknown(directory, f"AWQ in {bits} bits")
        return IntegerFormat("awq")
    raise _unknown(directory, f"the method {method!r}")


def _unknown(directory: Path, what: str) -> CheckpointError:
    return CheckpointError(
        "Quantized checkpoints of other programs have to be MLX, GPTQ or AWQ in 4 or 8 bits",
        f"config.json in {str(directory)!r} names {what}",
        "fetch the original checkpoint, or one in these formats",
    )


def _bits(directory: Path, bits: object) -> int:
    if bits not in BITS:
        raise _unknown(directory, f"{bits!r} bits")
    return int(str(bits))


def fields(words: Tensor, bits: int) -> Tensor:
    """The integers of words [..., n], lowest bits first: int32 [..., n * 32 / bits]."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    codes = words.view(torch.int32).unsqueeze(-1) >> shifts & (1 << bits) - 1
    return codes.flatten(-2)


class IntegerFiles(WeightFiles):
    """Tensors of a packed directory by their names in the published or hf layout.

    Args:
        files: the safetensors files.
        packing: how they are packed.

    Raises:
        CheckpointError: the tensors of a matrix do not fit each other.
    """

    def __init__(self, files: Files, packing: IntegerFormat) -> None:
        self._files, self._format = files, packing
        bare = packing.method == "mlx" and not any(n.startswith(MLX_PREFIX) for n in files.names)
        self._prefix = MLX_PREFIX if bare else ""
        packed = ".weight" if packing.method == "mlx" else ".qweight"
        self._matrices: dict[str, IntegerMatrix] = {}
        self._plain: dict[str, str] = {}
        names = set(files.names)
        for scales in sorted(name for name in names if name.endswith(".scales")):
            module = scales.removesuffix(".scales")
            parts = _parts(files, module, packed, packing)
            names -= {f"{module}{part}" for part in parts.names}
            self._matrices[f"{self._prefix}{module}.weight"] = parts
        self._plain = {f"{self._prefix}{name}": name for name in names}
        self.names = {*self._matrices, *self._plain}

    def file(self, name: str) -> str:
        """Name of the file that a tensor lies in."""
        matrix = self._matrices.get(name)
        return self._files.file(self._plain[name] if matrix is None else f"{matrix.module}.scales")

    def shape(self, name: str) -> list[int]:
        """Shape of the tensor that is meant."""
        if name in self._matrices:
            return self._matrices[name].shape
        shape = self._files.shape(self._plain[name])
        return [shape[0], shape[3], *shape[1:3]] if self._channels_last(name) else shape

    def dtype(self, name: str) -> str:
        """Type of a tensor; that of the scales for a matrix of integers."""
        matrix = self._matrices.get(name)
        return self._files.dtype(self._plain[name] if matrix is None else f"{matrix.module}.scales")

    def exact_dtype(self, name: str) -> torch.dtype:
        """The stored type; float32 for a matrix of integers."""
        if name in self._matrices:
            return torch.float32
        return self._files.exact_dtype(self._plain[name])

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows of a tensor, computed where they are stored as integers."""
        matrix = self._matrices.get(name)
        if matrix is not None:
            return matrix.rows(first, last)
        tensor = self._files.tensor(self._plain[name])[first:last]
        return tensor.permute(0, 3, 1, 2) if self._channels_last(name) else tensor

    def mapped(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """A tensor that is stored in a type, mapped; None where it is not."""
        if name in self._matrices or self._channels_last(name):
            return None
        return self._files.mapped(self._plain[name], dtype)

    def _channels_last(self, name: str) -> bool:
        return bool(self._prefix) and is_mlx_convolution(name)


@dataclass(frozen=True)
class IntegerMatrix:
    """A matrix of integers: the names of its parts after its module's name, and its shape."""

    files: Files
    module: str
    format: IntegerFormat
    names: tuple[str, ...]
    shape: list[int]

    def part(self, name: str) -> Tensor:
        """One of the parts."""
        return self.files.tensor(f"{self.module}{name}")

    def rows(self, first: int, last: int) -> Tensor:
        """Rows float32 [last - first, columns]."""
        if self.format.method == "mlx":
            return self._mlx(first, last)
        return self._gptq(first, last) if self.format.method == "gptq" else self._awq(first, last)

    def _mlx(self, first: int, last: int) -> Tensor:
        words = self.part(".weight")[first:last]
        scales = self.part(".scales")[first:last].float()
        offsets = self.part(".biases")[first:last].float()
        bits = WORD * words.shape[1] // self.shape[1]
        codes = fields(words, bits).unflatten(1, (scales.shape[1], -1))
        values: Tensor = (codes * scales[:, :, None] + offsets[:, :, None]).flatten(1)
        return values

    def _gptq(self, first: int, last: int) -> Tensor:
        bits = self.format.bits
        words = self.part(".qweight")[:, first:last]
        codes = fields(words.T.contiguous(), bits)
        per_word = WORD // bits
        begin, end = first // per_word, -(-last // per_word)
        zeros = fields(self.part(".qzeros")[:, begin:end], bits)[:, first - begin * per_word :]
        zeros = zeros[:, : last - first] + self.format.zero_shift
        return self._scaled(codes, zeros, first, last)

    def _awq(self, first: int, last: int) -> Tensor:
        per_word = WORD // self.format.bits
        begin, end = first // per_word, -(-last // per_word)
        span = slice(first - begin * per_word, last - begin * per_word)
        codes = self._columns(self.part(".qweight")[:, begin:end])[:, span].T
        zeros = self._columns(self.part(".qzeros")[:, begin:end])[:, span]
        return self._scaled(codes, zeros, first, last)

    def _columns(self, words: Tensor) -> Tensor:
        mixed = fields(words.contiguous(), self.format.bits).unflatten(-1, (-1, len(AWQ_ORDER)))
        columns: Tensor = mixed[..., list(AWQ_ORDER)].flatten(-2)
        return columns

    def _scaled(self, codes: Tensor, zeros: Tensor, first: int, last: int) -> Tensor:
        """Values [rows, columns] of codes [rows, columns], with offsets [groups, rows]."""
        scales = self.part(".scales")[:, first:last].float()
        if ".g_idx" in self.names:
            groups = self.part(".g_idx").long()
            if not 0 <= int(groups.min()) <= int(groups.max()) < len(scales):
                raise _unfit(self.format, self.names, f"{self.module} has groups without a scale")
        else:
            groups = torch.arange(self.shape[1]) * len(scales) // self.shape[1]
        values: Tensor = (codes - zeros.T[:, groups]) * scales.T[:, groups]
        return values


def _parts(files: Files, module: str, packed: str, packing: IntegerFormat) -> IntegerMatrix:
    """The parts of a matrix and its shape, from the shapes of the parts."""
    others = (".biases",) if packing.method == "mlx" else (".qzeros",)
    names: tuple[str, ...] = (packed, ".scales", *others)
    if f"{module}.g_idx" in files.names and packing.method == "gptq":
        names = (*names, ".g_idx")
    missing = [name for name in names if f"{module}{name}" not in files.names]
    shape = None if missing else _shape(files, module, packing, names)
    if shape is None:
        actual = (
            f"{', '.join(missing)} of {module} is missing" if missing else f"{module} has others"
        )
        raise _unfit(packing, names, actual)
    return IntegerMatrix(files, module, packing, names, shape)


def _unfit(packing: IntegerFormat, names: Sequence[str], actual: str) -> CheckpointError:
    return CheckpointError(
        f"A matrix of {packing.method.upper()} has to have the parts {', '.join(names)} that "
        "fit each other",
        actual,
        "fetch the checkpoint anew",
    )


def _shape(
    files: Files, module: str, packing: IntegerFormat, names: Sequence[str]
) -> list[int] | None:
    """Rows and columns of a matrix; None where its parts do not fit."""
    words, scales, zeros = (files.shape(f"{module}{name}") for name in names[:3])
    if not len(words) == len(scales) == len(zeros) == 2 or not all(scales):
        return None
    integers = names[:1] if packing.method == "mlx" else (names[0], names[2])
    if any(files.dtype(f"{module}{name}") not in WORDS for name in integers):
        return None
    if packing.method == "mlx":
        rows, columns = words[0], scales[1] * packing.groups.get(module, packing.group)
        fits = rows == scales[0] and zeros == scales
        filled = any(words[1] * WORD == columns * bits for bits in BITS)
        return [rows, columns] if fits and filled else None
    per_word = WORD // packing.bits
    rows, columns = words[1], words[0] * per_word
    if packing.method == "awq":
        rows, columns = words[1] * per_word, words[0]
    fits = scales[1] == rows and zeros == [scales[0], rows // per_word]
    if ".g_idx" in names:
        fits &= files.shape(f"{module}.g_idx") == [columns]
    else:
        fits &= columns % scales[0] == 0
    return [rows, columns] if fits else None
