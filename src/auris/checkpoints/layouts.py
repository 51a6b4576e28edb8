"""Tables of foreign weight names, which no other module has.

A rule says which modules of ours come from which modules of a layout. Several foreign modules
are concatenated along their output rows (queries, keys and values; gate and up). The same table
read backwards writes a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from auris.config import AutCtcConfig, ModelConfig, PromptedConfig

LayoutName = Literal["published", "hf", "native"]


@dataclass(frozen=True)
class Source:
    """Where one of our tensors lies in a layout.

    Attributes:
        names: foreign tensors, concatenated along the first axis.
        rows: first-axis length of each when there are several; empty for a single tensor.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...] = ()


_PUBLISHED = {
    "audio": "thinker.audio_tower",
    "projector_up": "thinker.audio_tower.proj1",
    "projector_out": "thinker.audio_tower.proj2",
    "decoder": "thinker.model",
    "head": "thinker.lm_head",
    "classes": "thinker.lm_head",
}

_HF = {
    "audio": "model.audio_tower",
    "projector_up": "model.multi_modal_projector.linear_1",
    "projector_out": "model.multi_modal_projector.linear_2",
    "decoder": "model.language_model",
    "head": "lm_head",
    "classes": "score",
}

LAYOUTS: dict[LayoutName, Mapping[str, str] | None] = {
    "published": _PUBLISHED,
    "hf": _HF,
    "native": None,
}
"""Where the parts of the model begin in every layout, for the braces in the rules; the native one
has our own names, fused."""

_RULES: dict[str, tuple[str, ...]] = {
    "encoder.stem.conv1": ("{audio}.conv2d1",),
    "encoder.stem.conv2": ("{audio}.conv2d2",),
    "encoder.stem.conv3": ("{audio}.conv2d3",),
    "encoder.stem.out": ("{audio}.conv_out",),
    "encoder.layers.#.attention_norm": ("{audio}.layers.#.self_attn_layer_norm",),
    "encoder.layers.#.qkv": tuple(f"{{audio}}.layers.#.self_attn.{x}_proj" for x in "qkv"),
    "encoder.layers.#.out": ("{audio}.layers.#.self_attn.out_proj",),
    "encoder.layers.#.ffn_norm": ("{audio}.layers.#.final_layer_norm",),
    "encoder.layers.#.up": ("{audio}.layers.#.fc1",),
    "encoder.layers.#.down": ("{audio}.layers.#.fc2",),
    "encoder.norm": ("{audio}.ln_post",),
    "projector.up": ("{projector_up}",),
    "projector.out": ("{projector_out}",),
    "decoder.embed": ("{decoder}.embed_tokens",),
    "decoder.layers.#.attention_norm": ("{decoder}.layers.#.input_layernorm",),
    "decoder.layers.#.qkv": tuple(f"{{decoder}}.layers.#.self_attn.{x}_proj" for x in "qkv"),
    "decoder.layers.#.q_norm": ("{decoder}.layers.#.self_attn.q_norm",),
    "decoder.layers.#.k_norm": ("{decoder}.layers.#.self_attn.k_norm",),
    "decoder.layers.#.out": ("{decoder}.layers.#.self_attn.o_proj",),
    "decoder.layers.#.ffn_norm": ("{decoder}.layers.#.post_attention_layernorm",),
    "decoder.layers.#.gate_up": (
        "{decoder}.layers.#.mlp.gate_proj",
        "{decoder}.layers.#.mlp.up_proj",
    ),
    "decoder.layers.#.down": ("{decoder}.layers.#.mlp.down_proj",),
    "decoder.norm": ("{decoder}.norm",),
    "decoder.head": ("{head}",),
    "head": ("{classes}",),
}


_GGUF: dict[str, tuple[str, ...]] = {
    "encoder.stem.conv1": ("a.conv2d.1",),
    "encoder.stem.conv2": ("a.conv2d.2",),
    "encoder.stem.conv3": ("a.conv2d.3",),
    "encoder.stem.out": ("a.conv_out",),
    "encoder.layers.#.attention_norm": ("a.blk.#.ln1",),
    "encoder.layers.#.qkv": tuple(f"a.blk.#.attn_{x}" for x in "qkv"),
    "encoder.layers.#.out": ("a.blk.#.attn_out",),
    "encoder.layers.#.ffn_norm": ("a.blk.#.ln2",),
    "encoder.layers.#.up": ("a.blk.#.ffn_up",),
    "encoder.layers.#.down": ("a.blk.#.ffn_down",),
    "encoder.norm": ("a.post_ln",),
    "projector.up": ("mm.a.mlp.1",),
    "projector.out": ("mm.a.mlp.2",),
    "decoder.embed": ("token_embd",),
    "decoder.layers.#.attention_norm": ("blk.#.attn_norm",),
    "decoder.layers.#.qkv": tuple(f"blk.#.attn_{x}" for x in "qkv"),
    "decoder.layers.#.q_norm": ("blk.#.attn_q_norm",),
    "decoder.layers.#.k_norm": ("blk.#.attn_k_norm",),
    "decoder.layers.#.out": ("blk.#.attn_output",),
    "decoder.layers.#.ffn_norm": ("blk.#.ffn_norm",),
    "decoder.layers.#.gate_up": ("blk.#.ffn_gate", "blk.#.ffn_up"),
    "decoder.layers.#.down": ("blk.#.ffn_down",),
    "decoder.norm": ("output_norm",),
    "decoder.head": ("output",),
}
"""Names in the two GGUF files of llama.cpp, the encoder's after "a." and "mm.a."."""

_HF_OF_GGUF = {
    gguf: hf.format(**_HF)
    for module, names in _GGUF.items()
    for gguf, hf in zip(names, _RULES[module], strict=True)
}

GGUF_HEAD = "output.weight"
"""The head of the decoder, which files of tied models do not have."""

GGUF_STEM = "a.conv2d.1.weight"
GGUF_EMBEDDING = "token_embd.weight"
GGUF_UNUSED = ("a.position_embd.weight", "rope_freqs.weight")
"""Tensors that are computed here."""


def hf_name_of_gguf(name: str) -> str:
    """The name in the hf layout of a tensor in a GGUF file; an unknown one keeps its own."""
    module, _, parameter = name.rpartition(".")
    number = re.search(r"\.(\d+)\.", module)
    named = _HF_OF_GGUF.get(module)
    if named is None and number is not None:
        named = _HF_OF_GGUF.get(module.replace(number[0], ".#.", 1))
        named = None if named is None else named.replace("#", number[1])
    return name if named is None else f"{named}.{parameter}"


MLX_PREFIX = "thinker."
"""Of all names in the published layout; directories of MLX leave it out."""


def is_mlx_convolution(name: str) -> bool:
    """Whether a weight of a directory of MLX is that of a convolution, with the channels last."""
    return re.search(r"conv2d\d\.weight$", name) is not None


def _rows(config: PromptedConfig, module: str) -> tuple[int, ...]:
    """First-axis lengths of the parts of a fused module."""
    if module.startswith("encoder."):
        return (config.encoder.d_model,) * 3
    decoder = config.decoder
    if module.endswith(".qkv"):
        key_rows = decoder.kv_heads * decoder.head_dim
        return (decoder.heads * decoder.head_dim, key_rows, key_rows)
    return (decoder.ffn, decoder.ffn)


def sources(config: ModelConfig, layout: LayoutName, ours: str) -> Source:
    """Where the tensor that we call `ours` lies in a layout.

    Raises:
        KeyError: the layout has no such tensor.
    """
    table = LAYOUTS[layout]
    if table is None:
        return Source((ours,))
    if isinstance(config, AutCtcConfig):
        raise KeyError(ours)
    module, _, parameter = ours.rpartition(".")
    number = re.search(r"\.(\d+)\.", module)
    pattern = module if number is None else module.replace(number[0], ".#.", 1)
    foreign = _RULES[pattern]
    names = tuple(
        name.format(**table).replace("#", number[1] if number else "") + f".{parameter}"
        for name in foreign
    )
    return Source(names, _rows(config, module) if len(names) > 1 else ())
