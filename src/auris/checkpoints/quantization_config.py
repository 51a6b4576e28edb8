"""Which weights of a model are packed how, and the key of config.json for that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from auris.checkpoints.configs import read_json
from auris.checkpoints.packed_formats import GROUPS, PackedDtype, Packing
from auris.config import ModelConfig, PromptedConfig, QwenAsrConfig
from auris.errors import ConfigError

PACKED_DTYPES = get_args(PackedDtype)

KEY = "quantization"
"""Of config.json."""

LEAST_WIDTH = 512
"""Hidden size from which an encoder's matrices are worth 8 bits, and a decoder's 4: narrower ones
have few numbers to average errors over, and few bytes to save."""

_MATRIX = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(qkv|out|up|gate_up|down)")
_CONVOLUTION = re.compile(r"encoder\.stem\.conv[23]")
_VOCABULARY = ("decoder.embed", "decoder.head")


@dataclass(frozen=True)
class Quantization:
    """How a whole model is quantized.

    Attributes:
        dtype: "int8" packs the matrices of all layers, the vocabulary, and the second and third
            convolution over time and frequency, except those of an encoder narrower than
            `LEAST_WIDTH`; "int4" packs those of the decoder's layers in 4
            bits, except the first and the last one's, which stay in 8 as everything else; so do all
            of a decoder narrower than `LEAST_WIDTH`. What scores the vocabulary lies in halves.
            Other convolutions, norms, biases, projector and CTC heads stay as they are.
        group: columns that share a step in int4.
    """

    dtype: PackedDtype
    group: int = 32

    def packing(self, module: str, config: ModelConfig) -> Packing | None:
        """How the weight of one of our modules is packed, or None for one that is not."""
        if module in _VOCABULARY:
            scores = isinstance(config, QwenAsrConfig) and (
                module == "decoder.head" or config.decoder.tied
            )
            return Packing("int8", halves=scores)
        if module.startswith("encoder.") and config.encoder.d_model < LEAST_WIDTH:
            return None
        if _CONVOLUTION.fullmatch(module) and config.encoder.stem == "conv2d":
            return Packing("int8")
        match = _MATRIX.fullmatch(module)
        if match is None:
            return None
        if self.dtype == "int4" and match[1] == "decoder" and isinstance(config, PromptedConfig):
            inner = 0 < int(match[2]) < config.decoder.layers - 1
            wide = config.decoder.hidden >= LEAST_WIDTH
            return Packing("int4", self.group) if inner and wide else Packing("int8")
        return Packing("int8")


def read_quantization(directory: Path) -> Quantization | None:
    """Read the quantization of a config.json; None for a checkpoint in floating point.

    Raises:
        ConfigError: it has values that this version does not know.
    """
    content = read_json(directory / "config.json").get(KEY)
    if content is None:
        return None
    known = isinstance(content, Mapping) and set(content) == {"dtype", "group"}
    if not known or content["dtype"] not in PACKED_DTYPES or content["group"] not in GROUPS:
        raise ConfigError(
            f"{KEY} in config.json has to name dtype ({' or '.join(PACKED_DTYPES)}) and group "
            f"({', '.join(map(str, GROUPS))})",
            f"it is {content!r}",
            "quantize the original checkpoint anew with auris quantize",
        )
    return Quantization(content["dtype"], content["group"])
