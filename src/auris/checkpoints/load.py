"""From a model directory to a module: meta device, mapped files, strict names and shapes.

Weights are mapped, not read: a tensor that is stored as it is used costs no copy. Fused tensors
of foreign layouts are concatenated one at a time, and the pages they came from are given back,
so that memory never holds the model twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from auris.checkpoints.configs import read_config
from auris.checkpoints.gguf_files import (
    GgufFiles,
    GgufModel,
    gguf_config,
    gguf_tokenizer,
    is_gguf,
    open_gguf,
)
from auris.checkpoints.integer_files import IntegerFiles, IntegerFormat, read_integer_format
from auris.checkpoints.layouts import LAYOUTS, LayoutName, Source, sources
from auris.checkpoints.quantization_config import Quantization, read_quantization
from auris.checkpoints.weight_files import (
    FLOATS,
    TENSOR_TYPES,
    Files,
    WeightFiles,
    weight_files,
)
from auris.config import AlignerConfig, AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.errors import CheckpointError, TensorError
from auris.models.aligner import Aligner
from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr
from auris.text.tokenizer import Tokenizer

EMBEDDING = "decoder.embed.weight"
"""Our name of what a tied head shares."""

TIED_ROWS = 256
"""Rows, about, that are compared with a repeated tied head."""

Model = QwenAsr | AutCtc | Aligner
"""Every kind of module that a config can mean."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)

VALUES_TESTED = 1 << 23
"""Values that are tested at once for being finite: the test makes copies of them."""


def build(config: ModelConfig) -> Model:
    """The module of a config; under `torch.device("meta")` it has shapes and no memory."""
    if isinstance(config, AutCtcConfig):
        return AutCtc(config)
    return Aligner(config) if isinstance(config, AlignerConfig) else QwenAsr(config)


@dataclass(frozen=True)
class Checkpoint:
    """A model directory whose config has been read.

    Attributes:
        directory: where it lies.
        layout: how its weights are named.
        config: shapes.
        quantization: how its weights are packed, or None where they are in floating point.
        integers: how another program packed them, or None.
        gguf: the headers of a model in GGUF files, whose text model is `directory`.
    """

    directory: Path
    layout: LayoutName
    config: ModelConfig
    quantization: Quantization | None = None
    integers: IntegerFormat | None = None
    gguf: GgufModel | None = None


def open_checkpoint(directory: str | Path) -> Checkpoint:
    """Read the config of a model directory, or of a model in GGUF files.

    Raises:
        CheckpointError: the directory or its config cannot be used.
    """
    path = Path(directory)
    if is_gguf(path):
        model = open_gguf(path)
        return Checkpoint(path, "hf", gguf_config(model), gguf=model)
    layout, config = read_config(path)
    integers = read_integer_format(path)
    quantization = None if integers else read_quantization(path)
    return Checkpoint(path, layout, config, quantization, integers)


def open_weights(stack: ExitStack, checkpoint: Checkpoint) -> WeightFiles:
    """The files of a checkpoint's weights, which `stack` closes; errors as in `load_weights`."""
    if checkpoint.gguf is not None:
        return GgufFiles(checkpoint.gguf)
    files = Files(stack, weight_files(checkpoint.directory))
    return files if checkpoint.integers is None else IntegerFiles(files, checkpoint.integers)


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Raises:
        TokenizerError, CheckpointError: it is missing or damaged.
    """
    if checkpoint.gguf is not None:
        return gguf_tokenizer(checkpoint.gguf)
    return Tokenizer.from_directory(checkpoint.directory)


def weight_sources(
    checkpoint: Checkpoint, files: WeightFiles, model: nn.Module
) -> dict[str, Source]:
    """Where each parameter of a model lies, after comparing names, shapes and dtypes.

    Raises:
        TensorError: the files do not match the model.
    """
    plan: dict[str, Source] = {}
    expected: dict[str, list[int]] = {}
    for ours, parameter in model.named_parameters():
        source = plan[ours] = sources(checkpoint.config, checkpoint.layout, ours)
        count, *rest = parameter.shape
        for name, rows in zip(source.names, source.rows or (count,), strict=True):
            expected[name] = [rows, *rest]
    layout, config = LAYOUTS[checkpoint.layout], checkpoint.config
    tied = isinstance(config, QwenAsrConfig) and config.decoder.tied
    head = f"{layout['head']}.weight" if layout and tied else None
    repeated = head if head in files.names else None
    holder = f"A checkpoint in the {checkpoint.layout} layout"
    check_tensors(files, expected, holder, spared=repeated)
    if repeated is not None:
        (embedding,) = plan[EMBEDDING].names
        _check_tied(files, repeated, embedding)
    return plan


def check_tensors(
    files: WeightFiles,
    expected: Mapping[str, list[int]],
    holder: str,
    spared: str | None = None,
    types: Mapping[str, str] | None = None,
) -> None:
    """Compare names, shapes and dtypes with the expected ones; report all of a kind.

    Args:
        expected: shapes by name.
        holder: what holds the tensors, for the message.
        spared: a further tensor that is allowed.
        types: of those that have to be of one type, in safetensors' words; the others are
            floating-point.

    Raises:
        TensorError: a tensor is missing, unknown, misshapen or wrongly typed.
    """
    spare = sorted(files.names - set(expected) - {spared})
    missing = sorted(set(expected) - files.names)
    remedy = "use the weights and the config.json of one and the same checkpoint"
    if missing or spare:
        parts = [
            f"{len(names)} {word} ({_some(names)})"
            for names, word in ((missing, "missing"), (spare, "unknown"))
            if names
        ]
        raise TensorError(
            f"{holder} has to hold exactly the tensors that its config demands",
            "there are " + " and ".join(parts),
            remedy,
        )
    misshapen = [n for n, shape in expected.items() if files.shape(n) != shape]
    if misshapen:
        name = misshapen[0]
        raise TensorError(
            f"Tensor {name} has to have the shape {expected[name]}",
            f"it has {files.shape(name)} in {files.file(name)}" + _more(misshapen),
            remedy,
        )
    allowed = {name: [types[name]] if types and name in types else FLOATS for name in expected}
    mistyped = [n for n in expected if files.dtype(n) not in allowed[n]]
    if mistyped:
        name = mistyped[0]
        raise TensorError(
            f"Tensor {name} has to be of type {', '.join(allowed[name])}",
            f"it is {files.dtype(name)} in {files.file(name)}" + _more(mistyped),
            "use a checkpoint in a floating-point type",
        )


def _check_tied(files: WeightFiles, head: str, embedding: str) -> None:
    """Refuse another head in a checkpoint with tied embeddings; some rows are compared."""
    step = max(1, files.shape(embedding)[0] // TIED_ROWS)
    kinds = {(files.dtype(name), *files.shape(name)) for name in (head, embedding)}
    if len(kinds) > 1 or not torch.equal(
        files.tensor(head)[::step], files.tensor(embedding)[::step]
    ):
        raise TensorError(
            f"With tie_word_embeddings, {head} has to repeat {embedding}",
            "they differ",
            "set tie_word_embeddings to false in config.json if the head is one of its own",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f", and {len(names) - 4} more" if len(names) > 4 else "")


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more are wrong too" if len(names) > 1 else ""


def assemble(
    files: WeightFiles, source: Source, dtype: torch.dtype, device: torch.device, copy: bool
) -> Tensor:
    """One tensor of ours: as mapped where that will do, else copied and its source released.

    With `copy` it is never as mapped.
    """
    if len(source.names) == 1 and device.type == "cpu" and not copy:
        mapped = files.mapped(source.names[0], dtype)
        if mapped is not None:
            return mapped
    rows, *rest = files.shape(source.names[0])
    parts = list(source.rows) or [rows]
    fused = torch.empty(sum(parts), *rest, dtype=dtype, device=device)
    for target, name in zip(fused.split(parts), source.names, strict=True):
        files.copy_to(name, target)
    return fused


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and nothing infinite."""
    values = tensor.reshape(-1)
    if not len(values) or not tensor.is_floating_point():
        return True
    # The extremes are NaN where a value is; they take a tenth of the time of isfinite.
    limits = (torch.stack(part.aminmax()) for part in values.split(VALUES_TESTED))
    return all(bool(limit.isfinite().all()) for limit in limits)


def stored_dtype(files: WeightFiles, names: Iterable[str] | None = None) -> torch.dtype:
    """The dtype of most of the tensors, or of most of those named."""
    kinds = Counter(files.dtype(name) for name in sorted(files.names if names is None else names))
    return FLOATS.get(kinds.most_common(1)[0][0], torch.float32)


class _Uninitialized(TorchFunctionMode):
    """Modules are built without drawing initial weights.

    Drawing them on the meta device computes nothing, but it loads torch's symbolic machinery,
    which takes longer than everything else here together.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def hollow(make: Callable[[], AnyModule]) -> AnyModule:
    """A module with shapes and without memory, to be filled with `load_state_dict(assign=True)`."""
    with torch.device("meta"), _Uninitialized():
        return make()


def load_weights(
    checkpoint: Checkpoint,
    device: torch.device,
    pick_dtype: Callable[[torch.dtype], torch.dtype],
    copy: bool = False,
    pick_decoder_dtype: Callable[[torch.dtype], torch.dtype] | None = None,
) -> Model:
    """Build a checkpoint's module and fill it.

    Args:
        pick_dtype: the compute dtype for the stored one.
        copy: hold the weights in memory of their own instead of mapping the files.
        pick_decoder_dtype: the dtype of a decoder's weights for the stored one, if they are all
            stored in that; otherwise and by default it is that of the other weights.

    Raises:
        CheckpointError: a tensor is missing, unknown, misshapen or wrongly typed, or a file
            is broken.
    """
    if checkpoint.quantization is not None:
        raise CheckpointError(
            "Weights have to be in floating point for this",
            f"those in {str(checkpoint.directory)!r} are {checkpoint.quantization.dtype}",
            "name the checkpoint that they were made from",
        )
    model = hollow(lambda: build(checkpoint.config))
    with ExitStack() as stack:
        files = open_weights(stack, checkpoint)
        plan = weight_sources(checkpoint, files, model)
        stored = stored_dtype(files)
        dtype = within_decoder = pick_dtype(stored)
        decoder = {ours for ours in plan if ours.startswith("decoder.")}
        kinds = {files.dtype(name) for ours in decoder for name in plan[ours].names}
        if pick_decoder_dtype is not None and kinds == {TENSOR_TYPES[stored]}:
            within_decoder = pick_decoder_dtype(stored)
        state = {}
        for ours, source in plan.items():
            kind = within_decoder if ours in decoder else dtype
            state[ours] = assemble(files, source, kind, device, copy)
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()
