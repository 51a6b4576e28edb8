"""From a model directory to a module: meta device, mapped files, strict names and shapes.

Weights are mapped, not read: a tensor that is stored as it is used costs no copy. Fused tensors
of foreign layouts are concatenated one at a time, and the pages they came from are given back,
so that memory never holds the model twice.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from auris.checkpoints.configs import read_config, read_json
from auris.checkpoints.layouts import LAYOUTS, LayoutName, Source, sources
from auris.checkpoints.quantization_config import Quantization, read_quantization
from auris.config import AlignerConfig, AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.errors import CheckpointError, TensorError
from auris.models.aligner import Aligner
from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

EMBEDDING = "decoder.embed.weight"
"""Our name of what a tied head shares."""

TIED_ROWS = 256
"""Rows, about, that are compared with a repeated tied head."""

Model = QwenAsr | AutCtc | Aligner
"""Every kind of module that a config can mean."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)

TENSOR_TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
"""Types in safetensors' words."""

_FLOATS = {name: dtype for dtype, name in TENSOR_TYPES.items() if dtype.is_floating_point}

VALUES_TESTED = 1 << 23
"""Values that are tested at once for being finite: the test makes copies of them."""


def build(config: ModelConfig) -> Model:
    """The module of a config; under `torch.device("meta")` it has shapes and no memory."""
    if isinstance(config, AutCtcConfig):
        return AutCtc(config)
    return Aligner(config) if isinstance(config, AlignerConfig) else QwenAsr(config)


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
        if not file.exists():
            kinds = ("*.bin", "*.pt")
            pickled = [file.name for kind in kinds for file in sorted(directory.glob(kind))]
            raise CheckpointError(
                "Weights have to lie in safetensors files",
                f"{str(file)!r} is missing"
                + (f" (pickled weights such as {pickled[0]} are never loaded)" if pickled else ""),
                "fetch the checkpoint anew or convert it to safetensors",
            )
    return files


@dataclass(frozen=True)
class Checkpoint:
    """A model directory whose config has been read.

    Attributes:
        directory: where it lies.
        layout: how its weights are named.
        config: shapes.
        quantization: how its weights are packed, or None where they are in floating point.
    """

    directory: Path
    layout: LayoutName
    config: ModelConfig
    quantization: Quantization | None = None


def open_checkpoint(directory: str | Path) -> Checkpoint:
    """Read the config of a model directory.

    Raises:
        CheckpointError: the directory or its config cannot be used.
    """
    path = Path(directory)
    layout, config = read_config(path)
    return Checkpoint(path, layout, config, read_quantization(path))


class Files:
    """Open safetensors files as one mapping of names; `stack` closes them.

    Attributes:
        where: the open file of every tensor.

    Raises:
        CheckpointError: a file is broken, or two hold one tensor.
    """

    def __init__(self, stack: ExitStack, files: list[Path]) -> None:
        self.where: dict[str, Any] = {}
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
                if name in self.where:
                    raise TensorError(
                        "Every tensor has to be stored once",
                        f"{name} is in more than one file",
                        "remove the spare file or fetch the checkpoint anew",
                    )
                self.where[name] = handle
                self._named[name] = file.name

    def file(self, name: str) -> str:
        """Name of the file that a tensor lies in."""
        return self._named[name]

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, which is not read."""
        return list(self.where[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Type of a tensor in safetensors' words, such as "F16"."""
        return str(self.where[name].get_slice(name).get_dtype())

    def tensor(self, name: str) -> Tensor:
        """A tensor, mapped."""
        tensor: Tensor = self.where[name].get_tensor(name)
        return tensor


def weight_sources(checkpoint: Checkpoint, files: Files, model: nn.Module) -> dict[str, Source]:
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
    repeated = head if head in files.where else None
    holder = f"A checkpoint in the {checkpoint.layout} layout"
    check_tensors(files, expected, holder, spared=repeated)
    if repeated is not None:
        (embedding,) = plan[EMBEDDING].names
        _check_tied(files, repeated, embedding)
    return plan


def check_tensors(
    files: Files,
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
    spare = sorted(set(files.where) - set(expected) - {spared})
    missing = sorted(set(expected) - set(files.where))
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
    allowed = {name: [types[name]] if types and name in types else _FLOATS for name in expected}
    mistyped = [n for n in expected if files.dtype(n) not in allowed[n]]
    if mistyped:
        name = mistyped[0]
        raise TensorError(
            f"Tensor {name} has to be of type {', '.join(allowed[name])}",
            f"it is {files.dtype(name)} in {files.file(name)}" + _more(mistyped),
            "use a checkpoint in a floating-point type",
        )


def _check_tied(files: Files, head: str, embedding: str) -> None:
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
    files: Files, source: Source, dtype: torch.dtype, device: torch.device, copy: bool
) -> Tensor:
    """One tensor of ours: as mapped where that will do, else copied and its source released.

    With `copy` it is never as mapped.
    """
    if len(source.names) == 1:
        mapped = files.tensor(source.names[0])
        if mapped.dtype == dtype and device.type == "cpu" and not copy:
            return mapped
        moved = mapped.to(device=device, dtype=dtype, copy=True)
        _release_pages(mapped)
        return moved
    parts = [files.tensor(name) for name in source.names]
    fused = torch.empty(sum(source.rows), *parts[0].shape[1:], dtype=dtype, device=device)
    for target, part in zip(fused.split(list(source.rows)), parts, strict=True):
        target.copy_(part)
        _release_pages(part)
    return fused


def _release_pages(tensor: Tensor) -> None:
    """Give the pages of a mapped tensor back to the system; reading them again maps them anew.

    Only whole pages inside the tensor are touched. Mappings are private and never written, so
    nothing can be lost. Where the system has no madvise, the pages stay until it wants them.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    try:
        advise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return
    size = tensor.numel() * tensor.element_size()
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and nothing infinite."""
    return all(bool(part.isfinite().all()) for part in tensor.reshape(-1).split(VALUES_TESTED))


def stored_dtype(files: Files, names: Iterable[str] | None = None) -> torch.dtype:
    """The dtype of most of the tensors, or of most of those named."""
    kinds = Counter(files.dtype(name) for name in sorted(files.where if names is None else names))
    return _FLOATS.get(kinds.most_common(1)[0][0], torch.float32)


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
        files = Files(stack, weight_files(checkpoint.directory))
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
