"""Qwen3-ASR in the two GGUF files of llama.cpp: the text model, and the encoder (mmproj)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import models
from torch import Tensor

from auris.checkpoints.gguf_header import SUFFIX, GgufHeader, GgufTensor, damaged, read_header
from auris.checkpoints.layouts import (
    GGUF_EMBEDDING,
    GGUF_HEAD,
    GGUF_STEM,
    GGUF_UNUSED,
    hf_name_of_gguf,
)
from auris.checkpoints.weight_files import WeightFiles
from auris.config import AutConfig, DecoderConfig, ProjectorConfig, QwenAsrConfig
from auris.errors import CheckpointError, MissingExtra
from auris.text.prompt import AUDIO_PAD
from auris.text.tokenizer import AddedId, Tokenizer, qwen2_core

ENCODER, PROJECTOR = "clip", "qwen3a"
TEXT_MODELS = ("qwen3vl", "qwen3")
"""Architectures that a file names: of the encoder's file, its projector, and text models."""

WINDOW_FRAMES = 800
"""The attention window of all official models; the files do not name it."""

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are added to the vocabulary."""

FLOATS = {0: ("F32", torch.float32), 1: ("F16", torch.float16), 30: ("BF16", torch.bfloat16)}
BLOCKS = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
}
"""Kinds of tensors by number: name, and values and bytes of a block."""

NOMINAL = "BF16"
"""What a model of blocks computes in where no type is chosen."""


@dataclass(frozen=True)
class GgufModel:
    """The headers of both files."""

    text: GgufHeader
    encoder: GgufHeader


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file, or a directory with one and without config.json."""
    if path.is_dir():
        return not (path / "config.json").exists() and any(path.glob(f"*{SUFFIX}"))
    return path.suffix.lower() == SUFFIX


def open_gguf(path: Path) -> GgufModel:
    """Read the headers of a model.

    Args:
        path: the text model's file, with that of the encoder in the same directory; or a directory
            that holds one of each.

    Raises:
        CheckpointError: a file is missing or damaged, or there are several.
    """
    directory = path if path.is_dir() else path.parent
    headers = [read_header(file) for file in sorted(directory.glob(f"*{SUFFIX}")) if file != path]
    encoders = [one for one in headers if _architecture(one) == ENCODER]
    if path.is_dir():
        text = _only([one for one in headers if _architecture(one) != ENCODER], path, "text model")
    else:
        text = read_header(path)
    if _architecture(text) not in TEXT_MODELS:
        raise CheckpointError(
            f"{str(text.path)!r} holds no text model of Qwen3-ASR",
            f"its architecture is {_architecture(text)!r}",
            "name the file of the text model; the encoder (mmproj) lies next to it",
        )
    encoder = _only(encoders, directory, "encoder (mmproj)")
    named = encoder.values.get(
        "clip.audio.projector_type", encoder.values.get("clip.projector_type")
    )
    if named != PROJECTOR:
        raise CheckpointError(
            f"The encoder of Qwen3-ASR has the projector {PROJECTOR}",
            f"that in {str(encoder.path)!r} has {named!r}",
            "fetch the mmproj file that belongs to the text model",
        )
    return GgufModel(text, encoder)


def _architecture(header: GgufHeader) -> object:
    return header.values.get("general.architecture")


def _only(headers: list[GgufHeader], directory: Path, what: str) -> GgufHeader:
    if len(headers) == 1:
        return headers[0]
    names = ", ".join(header.path.name for header in headers)
    raise CheckpointError(
        f"{str(directory)!r} has to hold one GGUF file of the {what}",
        f"it holds {names}" if headers else "it holds none",
        "move the others away" if headers else "fetch the file, such as mmproj-*.gguf",
    )


def gguf_config(model: GgufModel) -> QwenAsrConfig:
    """The shapes of a model.

    Raises:
        CheckpointError: a value or a tensor that tells them is missing.
    """
    text, encoder = model.text, model.encoder
    name = _architecture(text)
    tokens = text.value("tokenizer.ggml.tokens", list)
    if AUDIO_PAD not in tokens:
        raise damaged(text.path, f"its vocabulary has no token {AUDIO_PAD}")
    width = encoder.value("clip.audio.embedding_length", int)
    hidden = text.value(f"{name}.embedding_length", int)
    return QwenAsrConfig(
        encoder=AutConfig(
            mel_bins=encoder.value("clip.audio.num_mel_bins", int),
            layers=encoder.value("clip.audio.block_count", int),
            d_model=width,
            heads=encoder.value("clip.audio.attention.head_count", int),
            ffn=encoder.value("clip.audio.feed_forward_length", int),
            conv_channels=_tensor(encoder, GGUF_STEM).shape[0],
            window_frames=WINDOW_FRAMES,
        ),
        projector=ProjectorConfig(out=hidden, hidden=width),
        decoder=DecoderConfig(
            vocab=_tensor(text, GGUF_EMBEDDING).shape[0],
            hidden=hidden,
            layers=text.value(f"{name}.block_count", int),
            heads=text.value(f"{name}.attention.head_count", int),
            kv_heads=text.value(f"{name}.attention.head_count_kv", int),
            head_dim=text.value(f"{name}.attention.key_length", int),
            ffn=text.value(f"{name}.feed_forward_length", int),
            rope_theta=text.value(f"{name}.rope.freq_base", float),
            rms_eps=_rounded(text.value(f"{name}.attention.layer_norm_rms_epsilon", float)),
            tied=GGUF_HEAD not in text.tensors,
        ),
        audio_token_id=tokens.index(AUDIO_PAD),
    )


def _rounded(value: float) -> float:
    """The short decimal number that a float32 was made from."""
    return float(f"{value:.7g}")


def _tensor(header: GgufHeader, name: str) -> GgufTensor:
    tensor = header.tensors.get(name)
    if tensor is None or not tensor.shape:
        raise damaged(header.path, f"it has no tensor {name}")
    return tensor


def gguf_tokenizer(model: GgufModel) -> Tokenizer:
    """The tokenizer in the text model's file.

    Raises:
        CheckpointError: it is missing or of another kind.
    """
    text = model.text
    kind = text.value("tokenizer.ggml.model", str)
    if kind != "gpt2":
        raise damaged(text.path, f"its tokenizer is of the kind {kind!r}, not 'gpt2'")
    tokens = text.value("tokenizer.ggml.tokens", list)
    types = text.value("tokenizer.ggml.token_type", list)
    merges = text.value("tokenizer.ggml.merges", list)
    if len(types) != len(tokens):
        raise damaged(text.path, f"it has {len(tokens)} tokens and {len(types)} types of tokens")
    known: dict[str, int] = {}
    added: dict[str, AddedId] = {}
    for number, (token, of) in enumerate(zip(tokens, types, strict=True)):
        if of in (CONTROL, USER_DEFINED):
            added[token] = AddedId(number, of == CONTROL)
        elif of == 1:
            known[token] = number
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    try:
        return Tokenizer(qwen2_core(models.BPE(known, pairs)), added)
    except Exception as error:  # The tokenizers package raises Exception itself.
        raise damaged(text.path, f"its vocabulary is damaged ({error})") from None


class GgufFiles(WeightFiles):
    """The tensors of both files by their names in the hf layout, computed from their blocks.

    Raises:
        CheckpointError: a tensor is of an unknown kind, or its bytes are not in the file.
        MissingExtra: a kind needs the package gguf.
    """

    def __init__(self, model: GgufModel) -> None:
        self._lies: dict[str, tuple[GgufHeader, GgufTensor]] = {}
        for header in (model.text, model.encoder):
            for name, tensor in header.tensors.items():
                if name not in GGUF_UNUSED:
                    _check(header, name, tensor)
                    self._lies[hf_name_of_gguf(name)] = header, tensor
        self.names = set(self._lies)
        kind = _tensor(model.text, GGUF_EMBEDDING).kind
        self._nominal = FLOATS[kind][0] if kind in FLOATS else NOMINAL

    def file(self, name: str) -> str:
        """Name of the file that a tensor lies in."""
        return self._lies[name][0].path.name

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor; biases of convolutions are stored as images."""
        shape = list(self._lies[name][1].shape)
        return [math.prod(shape)] if name.endswith(".bias") else shape

    def dtype(self, name: str) -> str:
        """Type of the model: that of its vocabulary. Norms and biases are always in float32."""
        return self._nominal

    def exact_dtype(self, name: str) -> torch.dtype:
        """The stored type; float32 for blocks."""
        kind = self._lies[name][1].kind
        return FLOATS[kind][1] if kind in FLOATS else torch.float32

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows of a tensor: mapped, or computed from their blocks."""
        header, tensor = self._lies[name]
        shape = self.shape(name)
        values = math.prod(shape[1:])
        size = _bytes(tensor.kind, values)
        raw = torch.frombuffer(
            header.content,
            dtype=torch.uint8,
            offset=tensor.offset + first * size,
            count=(last - first) * size,
        )
        if tensor.kind in FLOATS:
            # An offset is a multiple of the alignment of the file, which may be odd.
            return raw.clone().view(FLOATS[tensor.kind][1]).view(last - first, *shape[1:])
        _, _, block = BLOCKS[tensor.kind]
        return _values(tensor.kind, raw.view(-1, block)).view(last - first, *shape[1:])


def _bytes(kind: int, values: int) -> int:
    if kind in FLOATS:
        return values * FLOATS[kind][1].itemsize
    _, width, block = BLOCKS[kind]
    return values // width * block


def _check(header: GgufHeader, name: str, tensor: GgufTensor) -> None:
    if tensor.kind not in FLOATS and tensor.kind not in BLOCKS:
        kinds = [*(kind for kind, _ in FLOATS.values()), *(kind for kind, *_ in BLOCKS.values())]
        raise CheckpointError(
            f"Tensors of a GGUF file have to be of a kind of {', '.join(kinds)}",
            f"{name} in {str(header.path)!r} is of {_kind_name(tensor.kind)}",
            "fetch a file in another quantization",
        )
    if tensor.kind in BLOCKS and tensor.shape[-1] % BLOCKS[tensor.kind][1]:
        raise damaged(header.path, f"rows of {name} are no whole blocks")
    if tensor.offset + _bytes(tensor.kind, math.prod(tensor.shape)) > len(header.content):
        raise damaged(header.path, f"it breaks off before the end of {name}")


def _kind_name(kind: int) -> str:
    """The name of a kind of tensor, as far as it can be told."""
    try:
        from gguf import GGMLQuantizationType

        return f"the kind {GGMLQuantizationType(kind).name}"
    except (ImportError, ValueError):
        return f"the kind with the number {kind}"


def _values(kind: int, blocks: Tensor) -> Tensor:
    """Values float32 [n, width] of blocks uint8 [n, bytes]."""
    if BLOCKS[kind][0] == "Q8_0":
        scale = blocks[:, :2].contiguous().view(torch.float16).float()
        return blocks[:, 2:].view(torch.int8) * scale
    if BLOCKS[kind][0] == "Q4_0":
        scale = blocks[:, :2].contiguous().view(torch.float16).float()
        codes = torch.cat([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1).to(torch.int8) - 8
        return codes * scale
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise MissingExtra(
            f"Tensors of the kind {BLOCKS[kind][0]} need the package gguf",
            "it is not installed",
            "run pip install 'auris-asr[gguf]', or fetch a file in Q8_0, Q4_0 or F16",
        ) from None
    return torch.from_numpy(dequantize(blocks.numpy(), GGMLQuantizationType(kind)))
