"""Which matrices are packed, by their width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auris.checkpoints.packed_formats import Packing
from auris.checkpoints.quantization_config import LEAST_WIDTH, Quantization
from tests.tiny_models import qwen_config


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_layers_of_narrow_encoders_are_not_quantized(dtype: str) -> None:
    narrow = qwen_config()
    assert narrow.encoder.d_model < LEAST_WIDTH
    wide = replace(narrow, encoder=replace(narrow.encoder, d_model=LEAST_WIDTH))
    rule = Quantization(dtype)
    assert rule.packing("encoder.layers.0.qkv", narrow) is None
    assert rule.packing("encoder.layers.0.qkv", wide) == Packing("int8")
    assert rule.packing("decoder.layers.0.qkv", narrow) == Packing("int8")
