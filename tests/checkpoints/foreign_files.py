"""Writes models in the formats of other programs: GGUF by its own package, MLX, GPTQ and AWQ as
their documentation describes them (their packages need hardware that is not everywhere)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from auris.checkpoints.load import Checkpoint, load_weights, open_checkpoint, read_tokenizer
from auris.checkpoints.weight_files import SINGLE
from auris.config import QwenAsrConfig
from tests.checkpoints.files import CPU, read_weights, write_weights

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

Quantize = Callable[[np.ndarray], tuple[np.ndarray, Kind]]


def as_kind(kind: Kind) -> Quantize:
    """Matrices whose rows are whole blocks in a kind, everything else in float32."""

    def quantize(weight: np.ndarray) -> tuple[np.ndarray, Kind]:
        width = gguf.GGML_QUANT_SIZES[kind][0]
        if weight.ndim != 2 or weight.shape[1] % width:
            return weight, Kind.F32
        if kind in (Kind.Q4_K, Kind.Q6_K):
            return random_blocks(weight, kind), kind
        return gguf.quants.quantize(weight, kind), kind

    return quantize


def random_blocks(weight: np.ndarray, kind: Kind) -> np.ndarray:
    """Blocks of a kind that the package can only read: any codes, and small scales."""
    width, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = weight.shape
    random = np.random.default_rng(rows * columns)
    blocks = random.integers(0, 256, (rows, columns // width, size), np.uint8)
    scale = np.frombuffer(np.float16(2e-5).tobytes(), np.uint8)
    places = ((0, 2), (2, 4)) if kind == Kind.Q4_K else ((208, 210),)
    for first, last in places:
        blocks[..., first:last] = scale
    return blocks.reshape(rows, -1)


@cache
def encoder_names() -> gguf.TensorNameMap:
    """Names of tensors in files of encoders; the package takes long to make the map."""
    return gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 64)


def gguf_name(name: str) -> str:
    """The name of a tensor of the published layout in a GGUF file."""
    name = name.removeprefix("thinker.")
    if name.startswith("audio_tower."):
        found = encoder_names().get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        return found
    if name == "lm_head.weight":
        return "output.weight"
    name = name.replace("model.layers.", "blk.")
    for ours, theirs in NAMES.items():
        name = name.replace(f"{ours}.", f"{theirs}.")
    return name


def write_gguf(published: Path, out: Path, quantize: Quantize, name: str = "model") -> Path:
    """The two files of a model in the published layout; returns that of the text model."""
    checkpoint = open_checkpoint(published)
    out.mkdir(parents=True, exist_ok=True)
    text = gguf.GGUFWriter(out / f"{name}.gguf", "qwen3vl")
    encoder = gguf.GGUFWriter(out / f"mmproj-{name}.gguf", "clip")
    _add_values(text, encoder, checkpoint)
    for tensor, weight in read_weights(published).items():
        writer = encoder if "audio_tower" in tensor else text
        values = weight.float().numpy()
        if "conv2d" in tensor and tensor.endswith(".bias"):
            values = values[:, None, None]
        data, kind = quantize(values)
        writer.add_tensor(gguf_name(tensor), data, raw_dtype=kind)
    encoder.add_tensor("a.position_embd.weight", np.zeros((8, 4), np.float32))
    for writer in (text, encoder):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return out / f"{name}.gguf"


def _add_values(text: gguf.GGUFWriter, encoder: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    assert isinstance(config, QwenAsrConfig)
    decoder, aut = config.decoder, config.encoder
    text.add_block_count(decoder.layers)
    text.add_embedding_length(decoder.hidden)
    text.add_feed_forward_length(decoder.ffn)
    text.add_head_count(decoder.heads)
    text.add_head_count_kv(decoder.kv_heads)
    text.add_key_length(decoder.head_dim)
    text.add_rope_freq_base(decoder.rope_theta)
    text.add_layer_norm_rms_eps(decoder.rms_eps)
    tokenizer = read_tokenizer(checkpoint)
    core = json.loads(tokenizer.core.to_str())["model"]
    tokens = [f"[PAD{number}]" for number in range(decoder.vocab)]
    types = [5] * decoder.vocab
    for token, number in core["vocab"].items():
        tokens[number], types[number] = token, 1
    for token, entry in tokenizer.added.items():
        tokens[entry.id], types[entry.id] = token, 3 if entry.special else 4
    text.add_tokenizer_model("gpt2")
    text.add_tokenizer_pre("qwen2")
    text.add_token_list(tokens)
    text.add_token_types(types)
    text.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in core["merges"]])
    encoder.add_string("clip.audio.projector_type", "qwen3a")
    encoder.add_uint32("clip.audio.num_mel_bins", aut.mel_bins)
    encoder.add_uint32("clip.audio.block_count", aut.layers)
    encoder.add_uint32("clip.audio.embedding_length", aut.d_model)
    encoder.add_uint32("clip.audio.attention.head_count", aut.heads)
    encoder.add_uint32("clip.audio.feed_forward_length", aut.ffn)


def change(directory: Path, quantization: dict[str, object], key: str) -> None:
    """Name a quantization in config.json."""
    path = directory / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, key: quantization}), encoding="utf-8")


def words(codes: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> np.ndarray:
    """Codes [rows, n] as 32-bit words [rows, n * bits / 32]; `order` of the codes in a word."""
    count = 32 // bits
    packed = np.zeros((codes.shape[0], codes.shape[1] // count), np.uint32)
    for place in range(count):
        column = place if order is None else order[place]
        packed |= codes[:, column::count].astype(np.uint32) << np.uint32(place * bits)
    return packed


def tensor_of_words(packed: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(packed).view(np.int32).copy())


def replaced(
    directory: Path,
    wanted: Callable[[str], bool],
    pack: Callable[[str, np.ndarray], tuple[dict[str, Tensor], np.ndarray]],
) -> dict[str, Tensor]:
    """Pack the matrices of a directory; returns the tensors that the new ones mean, by name.

    Args:
        pack: of a module and its weight the parts, by their names after the module's, and what
            they mean.
    """
    tensors, meant = read_weights(directory), {}
    for name in [n for n in tensors if n.endswith("_proj.weight") and wanted(n)]:
        module = name.removesuffix(".weight")
        parts, values = pack(module, tensors.pop(name).float().numpy())
        tensors |= {f"{module}.{part}": value for part, value in parts.items()}
        meant[name] = torch.from_numpy(values)
    others = read_weights(directory).keys() - meant.keys()
    meant |= {name: tensor for name, tensor in tensors.items() if name in others}
    write_weights(directory, tensors)
    return meant


def weights_of(directory: Path) -> dict[str, Tensor]:
    """Our tensors of a directory, in float32."""
    model = load_weights(open_checkpoint(directory), CPU, lambda _: torch.float32)
    return dict(model.named_parameters())


__all__ = ["SINGLE", "as_kind", "change", "replaced", "tensor_of_words", "words", "write_gguf"]
