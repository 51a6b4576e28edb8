"""Model directories in 8 or 4 bits, made from others."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from auris.checkpoints.atomic import new_directory
from auris.checkpoints.export import config_json, read_parts, write_parts
from auris.checkpoints.load import open_checkpoint
from auris.checkpoints.packed_files import save_packed
from auris.checkpoints.packed_formats import GROUPS, PackedDtype
from auris.checkpoints.quantization_config import KEY, PACKED_DTYPES, Quantization
from auris.checkpoints.weight_files import SINGLE
from auris.errors import CheckpointError, UsageError


def quantize(
    source: str | Path, out: str | Path, dtype: PackedDtype = "int8", group: int = 32
) -> Path:
    """Write a checkpoint anew with its large matrices in 8 or 4 bits.

    Args:
        source: a model directory in floating point, in any layout.
        out: the directory to make, in the native layout; it must not exist or be empty.

    Raises:
        CheckpointError, TokenizerError: the source cannot be read, or is quantized already.
        UsageError: a dtype or group that there is not, or the directory exists.
        OutputError: it cannot be written; nothing is left of it.
    """
    if dtype not in PACKED_DTYPES:
        raise UsageError(
            f"The dtype has to be {' or '.join(PACKED_DTYPES)}",
            f"it is {dtype!r}",
            "choose one",
        )
    if group not in GROUPS:
        raise UsageError(
            f"The group has to be {', '.join(map(str, GROUPS))}", f"it is {group}", "choose one"
        )
    checkpoint = open_checkpoint(source)
    if checkpoint.quantization is not None:
        raise CheckpointError(
            "A checkpoint to quantize has to be in floating point",
            f"{str(source)!r} is already in {checkpoint.quantization.dtype}",
            "name the checkpoint that it was made from",
        )
    parts = read_parts(checkpoint, torch.float32)
    quantization = Quantization(dtype, group)
    with new_directory(out) as draft:
        parts = replace(parts, dtype=save_packed(checkpoint, quantization, draft / SINGLE))
        content = {**config_json("native", parts), KEY: asdict(quantization)}
        write_parts(draft, "native", parts, content)
    return Path(out)
