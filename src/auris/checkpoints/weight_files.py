"""Files of weights: names, shapes and types of their tensors, and the tensors, mapped.

What is stored in another form than the tensors that it means, such as integers with scales in the
formats of other programs, is a `WeightFiles` too, which computes the tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from auris.checkpoints.configs import read_json
from auris.errors import CheckpointError, TensorError
from auris.models import pages

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

TENSOR_TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
"""Types in safetensors' words."""

FLOATS = {name: dtype for dtype, name in TENSOR_TYPES.items() if dtype.is_floating_point}
"""The floating-point types, by their names."""

SLICE = 1 << 22
"""Values of a computed tensor that are in memory at once, about."""


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory, one or several shards.

    Raises:
        CheckpointError: there are none, or the index names one that is missing.
    """
    index = directory / INDEX
    if index.exists():
        shards = read_json(index).get("weight_map")
        names = list(shards.values()) if isinstance(shards, dict) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise CheckpointError(
                f"{INDEX} has to hold a weight_map of tensor names to files",
                f"the one in {str(directory)!r} does not",
                "fetch the checkpoint anew",
            )
        # Shards are in the directory of their index; a name that leads elsewhere is not followed.
        files = [directory / Path(name).name for name in sorted(set(names))]
    else:
        files = [directory / SINGLE]
    for file in files:
        if not file.is_file():
            kinds = ("*.bin", "*.pt")
            pickled = [file.name for kind in kinds for file in sorted(directory.glob(kind))]
            raise CheckpointError(
                "Weights have to lie in safetensors files",
                f"{str(file)!r} is missing or not a regular file"
                + (f" (pickled weights such as {pickled[0]} are never loaded)" if pickled else ""),
                "fetch the checkpoint anew or convert it to safetensors",
            )
    return files


class WeightFiles(ABC):
    """Tensors by name.

    Attributes:
        names: of all tensors.
    """

    names: set[str]

    @abstractmethod
    def file(self, name: str) -> str:
        """Name of the file that a tensor lies in."""

    @abstractmethod
    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, which is not read."""

    @abstractmethod
    def dtype(self, name: str) -> str:
        """Type of a tensor in safetensors' words, such as "F16": the one it is meant to have."""

    @abstractmethod
    def exact_dtype(self, name: str) -> torch.dtype:
        """The type that holds a tensor without loss."""

    @abstractmethod
    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows of a tensor in their exact type."""

    def tensor(self, name: str) -> Tensor:
        """A tensor in its exact type."""
        return self.rows(name, 0, self.shape(name)[0])

    def mapped(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """A tensor that is stored in a type, without a copy; None where it is not."""
        return None

    def copy_to(self, name: str, target: Tensor) -> None:
        """Write a tensor into another one of its shape, in the type of that."""
        count = len(target)
        step = max(1, SLICE * count // max(target.numel(), 1))
        for first in range(0, count, step):
            last = min(first + step, count)
            target[first:last].copy_(self.rows(name, first, last))


class Files(WeightFiles):
    """Open safetensors files as one mapping of names; `stack` closes them.

    Raises:
        CheckpointError: a file is broken, or two hold one tensor.
    """

    def __init__(self, stack: ExitStack, files: list[Path]) -> None:
        self._where: dict[str, Any] = {}
        self._named: dict[str, str] = {}
        for file in files:
            try:
                handle = stack.enter_context(safe_open(str(file), framework="pt"))
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"The weight file {str(file)!r} is damaged ({error})",
                    "",
                    "fetch the file anew",
                ) from None
            for name in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                if name in self._where:
                    raise TensorError(
                        "Every tensor has to be stored once",
                        f"{name} is in more than one file",
                        "remove the spare file or fetch the checkpoint anew",
                    )
                self._where[name] = handle
                self._named[name] = file.name
        self.names = set(self._where)

    def file(self, name: str) -> str:
        """Name of the file that a tensor lies in."""
        return self._named[name]

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, which is not read."""
        return list(self._where[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Type of a tensor as it is stored."""
        return str(self._where[name].get_slice(name).get_dtype())

    def exact_dtype(self, name: str) -> torch.dtype:
        """The stored type."""
        return self.tensor(name).dtype

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows of a tensor, mapped."""
        return self.tensor(name)[first:last]

    def tensor(self, name: str) -> Tensor:
        """A tensor, mapped."""
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor

    def mapped(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """A tensor that is stored in a type, mapped; None where it is not."""
        tensor = self.tensor(name)
        return tensor if tensor.dtype == dtype else None

    def copy_to(self, name: str, target: Tensor) -> None:
        """Write a tensor into another one of its shape, and release its pages."""
        tensor = self.tensor(name)
        target.copy_(tensor)
        pages.release(tensor)
