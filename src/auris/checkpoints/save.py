"""From a module to weight files: the layouts' tables read backwards."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auris.checkpoints.layouts import LayoutName, sources
from auris.checkpoints.weight_files import INDEX, SINGLE
from auris.config import ModelConfig
from auris.errors import TensorError

SHARD_BYTES = 5_000_000_000
"""Largest weight file; a bigger model is written in shards."""


def _named(model: nn.Module, config: ModelConfig, layout: LayoutName) -> dict[str, Tensor]:
    """Every tensor under its name in the layout, fused ones split as views."""
    named: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        source = sources(config, layout, ours)
        parts = tensor.split(list(source.rows)) if source.rows else (tensor,)
        named.update(zip(source.names, parts, strict=True))
    return named


def _shards(named: dict[str, Tensor], limit: int, size: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in named.items():
        length = tensor.numel() * size
        if shards[-1] and filled + length > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += length
    return shards


def converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in the dtype of the file.

    Raises:
        TensorError: a finite value would become infinite.
    """
    ours = tensor.detach().cpu()
    written = ours.to(dtype).contiguous()
    if dtype != ours.dtype and bool((written.isinf() & ours.isfinite()).any()):
        raise TensorError(
            f"Every weight has to fit into {str(dtype).removeprefix('torch.')}",
            f"{name} has values up to {float(ours.abs().max()):.3g}",
            "write float32 or bfloat16",
        )
    return written


def save_weights(
    model: nn.Module,
    config: ModelConfig,
    layout: LayoutName,
    dtype: torch.dtype,
    directory: Path,
    shard_bytes: int,
) -> None:
    """Write a model's weights, a shard at a time; tied embeddings are written once.

    Args:
        shard_bytes: largest file; beyond it an index and shards are written.

    Raises:
        TensorError: a value is too large for the dtype.
    """
    named = _named(model, config, layout)
    shards = _shards(named, shard_bytes, dtype.itemsize)
    count = len(shards)
    names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    names = names if count > 1 else [SINGLE]
    for name, shard in zip(names, shards, strict=True):
        written = {key: converted(key, tensor, dtype) for key, tensor in shard.items()}
        save_file(written, str(directory / name), metadata={"format": "pt"})
    if count > 1:
        files = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(tensor.numel() for tensor in named.values()) * dtype.itemsize
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (directory / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
