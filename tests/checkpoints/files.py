"""Model directories for tests: written once, copied, and damaged on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auris.checkpoints.load import load_weights, open_checkpoint
from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr

LAYOUTS = ("published", "hf", "native")
FOREIGN = ("published", "hf")
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CPU = torch.device("cpu")


def load(directory: Path, dtype: torch.dtype | None = None, copy: bool = False) -> QwenAsr | AutCtc:
    """The module of a directory on the CPU, by default in the dtype that is stored."""
    return load_weights(open_checkpoint(directory), CPU, lambda stored: dtype or stored, copy)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory, from one file or from shards."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def write_weights(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replace the weights of a directory by one file."""
    for file in [*directory.glob("*.safetensors"), *directory.glob(INDEX)]:
        file.unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / SINGLE)


def copied(source: Path, out: Path) -> Path:
    shutil.copytree(source, out)
    return out


def read_config(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return content


def write_config(directory: Path, content: Any) -> None:
    (directory / "config.json").write_text(json.dumps(content), encoding="utf-8")


def change_weights(directory: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    tensors = read_weights(directory)
    change(tensors)
    write_weights(directory, tensors)
    return directory


def assert_same_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Names, dtypes and all bits are equal."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
