"""Model directories in 8 or 4 bits, made from others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from auris.checkpoints.atomic import new_directory
from auris.checkpoints.calibration import load_calibration
from auris.checkpoints.configs import read_generation
from auris.checkpoints.ctc_head import load_ctc_head
from auris.checkpoints.export import Parts, config_json, write_besides
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.load import SINGLE, open_checkpoint
from auris.checkpoints.packed import CPU, save_packed
from auris.checkpoints.packing import GROUPS, PackedDtype
from auris.checkpoints.quantization import KEY, PACKED_DTYPES, Quantization
from auris.checkpoints.validation import check_vocabulary
from auris.errors import CheckpointError, UsageError
from auris.text.tokenizer import Tokenizer

__all__ = ["quantize"]


def quantize(
    source: str | Path, out: str | Path, dtype: PackedDtype = "int8", group: int = 32
) -> Path:
    """Write a checkpoint anew with its large matrices in 8 or 4 bits.

    Args:
        source: a model directory in floating point, in any layout.
        out: the directory to make, in the native layout; it must not exist or be empty.
        dtype, group: see `Quantization`.

    Raises:
        CheckpointError, TokenizerError: the source cannot be read, or is quantized already.
        UsageError: a dtype or group that there is not, or the directory exists.
        OutputError: it cannot be written; nothing is left of it.
    """
    if dtype not in PACKED_DTYPES:
        raise UsageError(
            f"The dtype has to be {' or '.join(PACKED_DTYPES)}",
            f"{dtype!r} was asked",
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
    config = checkpoint.config
    tokenizer = Tokenizer.from_directory(checkpoint.directory)
    check_vocabulary(config, tokenizer)
    head = load_ctc_head(checkpoint.directory, config, CPU)
    calibration = load_calibration(checkpoint.directory)
    traits = load_inference_defaults(checkpoint.directory)
    generation = read_generation(checkpoint.directory) or {}
    quantization = Quantization(dtype, group)
    with new_directory(out) as draft:
        rest = save_packed(checkpoint, quantization, draft / SINGLE)
        parts = Parts(config, tokenizer, rest, generation, head, calibration, traits)
        said = {**config_json("native", parts), KEY: dataclasses.asdict(quantization)}
        write_besides(draft, "native", parts, said)
    return Path(out)
