"""Checkpoints in 8 or 4 bits: what is packed how, as it is loaded and as it lies in a directory.

A quantized directory is one in the native layout whose config.json has the key `quantization`. Its
tensors lie in one safetensors file at multiples of 64 bytes where their sizes allow it, and are
used where they lie. A checkpoint in floating point is packed tensor by tensor while it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auris.checkpoints.layouts import Source
from auris.checkpoints.load import (
    Checkpoint,
    Model,
    all_finite,
    assemble,
    build,
    check_tensors,
    hollow,
    open_weights,
    stored_dtype,
    weight_sources,
)
from auris.checkpoints.packed_formats import Packing, as_matrix, pack, packed_shapes
from auris.checkpoints.page_cache import drop, read_in_large_pages
from auris.checkpoints.quantization_config import Quantization
from auris.checkpoints.weight_files import TENSOR_TYPES, WeightFiles, weight_files
from auris.config import ModelConfig, PromptedConfig
from auris.errors import CheckpointError

CPU = torch.device("cpu")

ALIGNMENT = 64

ALWAYS_FLOAT32 = (".scale", ".lower_norm")
"""Tensors of packed matrices that are in float32 whatever the dtype of the model."""

Swap = Callable[[Model, Callable[[str], Packing | None]], None]
"""Puts modules of packed weights into a model, given the packing of every module by name."""


def _tensors(
    model: Model, packing: Callable[[str], Packing | None], dtype: torch.dtype
) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Types and shapes of a packed model's tensors; what is not packed has `dtype`."""
    tensors: dict[str, tuple[torch.dtype, list[int]]] = {}
    for name, parameter in model.named_parameters():
        module, _, kind = name.rpartition(".")
        packed = packing(module) if kind == "weight" else None
        if packed is None:
            tensors[name] = dtype, list(parameter.shape)
        else:
            rows, width = parameter.shape[0], parameter[0].numel()
            shapes = packed_shapes(rows, width, packed)
            tensors.update({f"{module}.{part}": shape for part, shape in shapes.items()})
    return tensors


def _packed(
    files: WeightFiles, plan: Mapping[str, Source], packing: Callable[[str], Packing | None]
) -> Iterator[tuple[str, Tensor]]:
    """A checkpoint's tensors, packed one at a time; the others as they are stored."""
    for ours, source in plan.items():
        module, _, kind = ours.rpartition(".")
        packed = packing(module) if kind == "weight" else None
        stored = files.exact_dtype(source.names[0])
        tensor = assemble(files, source, stored, CPU, copy=True)
        if packed is None:
            yield ours, tensor
            continue
        if not all_finite(tensor):
            raise CheckpointError(
                "Weights to be quantized have to be finite numbers",
                f"{ours} holds others",
                "use an undamaged checkpoint",
            )
        for part, values in pack(as_matrix(tensor), packed).items():
            yield f"{module}.{part}", values


def _computed(name: str, tensor: Tensor, dtype: torch.dtype, config: ModelConfig) -> Tensor:
    """A tensor in the type it is computed in: float32 in the decoder, `dtype` elsewhere."""
    if not tensor.is_floating_point() or name.endswith(ALWAYS_FLOAT32):
        return tensor
    within = isinstance(config, PromptedConfig) and name.startswith(("decoder.", "head."))
    return tensor.to(torch.float32 if within else dtype)


def load_packed(
    checkpoint: Checkpoint,
    quantization: Quantization,
    pick_dtype: Callable[[torch.dtype], torch.dtype],
    swap: Swap,
    copy: bool = False,
) -> Model:
    """Build a checkpoint's module with packed weights and fill it, on the CPU.

    Args:
        checkpoint: where it is quantized itself, as `quantization` says.
        quantization: how to pack what is not packed yet.
        pick_dtype: the compute dtype of the encoder for the stored one; a decoder computes in
            float32 between its integer products.
        swap: puts the modules of packed weights in.
        copy: hold the weights in memory of their own instead of mapping the files.

    Raises:
        CheckpointError: a tensor is missing, unknown, misshapen or wrongly typed, or a file
            is broken.
    """
    config = checkpoint.config
    model = hollow(lambda: build(config))
    packing = partial(quantization.packing, config=config)
    with ExitStack() as stack:
        files = open_weights(stack, checkpoint)
        if checkpoint.quantization is None:
            dtype = pick_dtype(stored_dtype(files))
            tensors = _packed(files, weight_sources(checkpoint, files, model), packing)
        else:
            expected = _tensors(model, packing, torch.float32)
            shapes = {name: shape for name, (_, shape) in expected.items()}
            types = {
                name: TENSOR_TYPES[kind]
                for name, (kind, _) in expected.items()
                if not kind.is_floating_point or name.endswith(ALWAYS_FLOAT32)
            }
            check_tensors(files, shapes, "A quantized checkpoint", types=types)
            dtype = pick_dtype(stored_dtype(files, set(expected) - set(types)))
            if not copy:
                for file in weight_files(checkpoint.directory):
                    read_in_large_pages(file)
            stored = ((name, files.tensor(name)) for name in expected)
            tensors = ((name, t.clone() if copy else t) for name, t in stored)
        state = {name: _computed(name, tensor, dtype, config) for name, tensor in tensors}
    swap(model, packing)
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def save_packed(checkpoint: Checkpoint, quantization: Quantization, path: Path) -> torch.dtype:
    """Write a checkpoint in floating point to a safetensors file, one packed tensor at a time.

    Returns:
        type of the tensors that are not packed.

    Raises:
        CheckpointError: the checkpoint is broken.
        OSError: the file cannot be written.
    """
    config = checkpoint.config
    model = hollow(lambda: build(config))
    packing = partial(quantization.packing, config=config)
    with ExitStack() as stack:
        files = open_weights(stack, checkpoint)
        plan = weight_sources(checkpoint, files, model)
        stored = stored_dtype(files)
        tensors = _tensors(model, packing, stored)
        offsets = _write_header(path, tensors)
        with path.open("r+b") as out:
            for name, tensor in _packed(files, plan, packing):
                dtype, _ = tensors[name]
                out.seek(offsets[name])
                # numpy has no bfloat16; bytes are bytes.
                out.write(tensor.to(dtype).contiguous().view(torch.uint8).numpy().data)
            drop(out)
    return stored


def _write_header(
    path: Path, tensors: Mapping[str, tuple[torch.dtype, list[int]]]
) -> dict[str, int]:
    """Begin a safetensors file; the places of its tensors, those of whole blocks first.

    Source of the format: https://github.com/huggingface/safetensors#format.
    """

    def size(name: str) -> int:
        dtype, shape = tensors[name]
        return dtype.itemsize * torch.Size(shape).numel()

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    # Nothing may lie between tensors, so the odd sizes come last.
    for name in sorted(tensors, key=lambda name: size(name) % ALIGNMENT != 0):
        dtype, shape = tensors[name]
        offsets = [end, end := end + size(name)]
        header[name] = {"dtype": TENSOR_TYPES[dtype], "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)
    begin = 8 + len(text)
    return {n: begin + header[n]["data_offsets"][0] for n in tensors}
