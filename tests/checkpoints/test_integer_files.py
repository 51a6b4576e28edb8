"""Directories of MLX, GPTQ and AWQ, written by hand as their documentation describes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from auris import AsrPipeline
from auris.checkpoints.integer_files import read_integer_format
from auris.errors import CheckpointError
from tests.checkpoints.files import copied, read_weights, write_weights
from tests.recordings import BUDGET, clip, tokens
from tests.tiny_models import qwen_config, write_tiny

pytest.importorskip("gguf")  # The module below writes GGUF files, too.

from tests.checkpoints.foreign_files import (
    change,
    replaced,
    tensor_of_words,
    weights_of,
    words,
)

AWQ_WORD = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of each 4-bit integer of a word, from the lowest bits."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = qwen_config(hidden=64, decoder_heads=4, head_dim=16)
    return write_tiny(tmp_path_factory.mktemp("integers") / "published", "published", config, 5)


def codes_of(weight: np.ndarray, group: int, bits: int) -> tuple[np.ndarray, ...]:
    """Codes, scales float16 and smallest values float16 of groups of columns."""
    groups = weight.reshape(len(weight), -1, group)
    low = groups.min(2).astype(np.float16)
    scale = ((groups.max(2) - low) / (2**bits - 1)).astype(np.float16)
    codes = np.rint((groups - low[..., None]) / np.maximum(scale, 1e-6)[..., None])
    return codes.clip(0, 2**bits - 1).reshape(weight.shape).astype(np.int64), scale, low


def mlx(bits: int, group: int):
    def pack(module: str, weight: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
        codes, scale, low = codes_of(weight, group, bits)
        spread = [np.repeat(part.astype(np.float32), group, 1) for part in (scale, low)]
        parts = {
            "weight": tensor_of_words(words(codes, bits)).view(torch.uint32),
            "scales": torch.from_numpy(scale),
            "biases": torch.from_numpy(low),
        }
        return parts, codes.astype(np.float32) * spread[0] + spread[1]

    return pack


def gptq(bits: int, group: int, shift: int, shuffled: bool = False):
    def pack(module: str, weight: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
        rows, columns = weight.shape
        random = np.random.default_rng(rows + columns)
        scales = random.uniform(0.01, 0.1, (columns // group, rows)).astype(np.float16)
        zeros = random.integers(1, 2**bits, scales.shape)
        codes = random.integers(0, 2**bits, weight.shape)
        of = np.arange(columns) // group
        if shuffled:
            of = random.permutation(of)
        parts = {
            "qweight": tensor_of_words(words(codes, bits).T),
            "qzeros": tensor_of_words(words(zeros - shift, bits)),
            "scales": torch.from_numpy(scales),
        }
        if shuffled:
            parts["g_idx"] = torch.from_numpy(of.astype(np.int32))
        values = (codes - zeros[of].T).astype(np.float32) * scales[of].T.astype(np.float32)
        return parts, values

    return pack


def awq(group: int):
    def pack(module: str, weight: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
        rows, columns = weight.shape
        random = np.random.default_rng(rows * columns)
        scales = random.uniform(0.01, 0.1, (columns // group, rows)).astype(np.float16)
        zeros = random.integers(0, 16, scales.shape)
        codes = random.integers(0, 16, (columns, rows))
        parts = {
            "qweight": tensor_of_words(words(codes, 4, AWQ_WORD)),
            "qzeros": tensor_of_words(words(zeros, 4, AWQ_WORD)),
            "scales": torch.from_numpy(scales),
        }
        of = np.arange(columns) // group
        return parts, ((codes - zeros[of]) * scales[of].astype(np.float32)).T.astype(np.float32)

    return pack


def is_decoder(name: str) -> bool:
    return "audio_tower" not in name


CASES = {
    "gptq": (gptq(4, 16, 1), {"quant_method": "gptq", "bits": 4, "group_size": 16}),
    "gptq shuffled": (
        gptq(4, 16, 1, shuffled=True),
        {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True},
    ),
    "gptq in 8 bits": (
        gptq(8, 32, 0),
        {"quant_method": "gptq", "bits": 8, "group_size": 32, "checkpoint_format": "gptq_v2"},
    ),
    "awq": (
        awq(16),
        {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"},
    ),
}


def check(packed: Path, meant: dict[str, Tensor], published: Path, out: Path) -> None:
    """Weights and texts of a packed directory are those that its integers mean."""
    plain = copied(published, out)
    write_weights(plain, meant)
    ours, theirs = weights_of(packed), weights_of(plain)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    texts = [
        tokens(AsrPipeline(one, "cpu", dtype="int8").transcribe(clip(1.5), max_new_tokens=BUDGET))
        for one in (packed, plain)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("case", CASES)
def test_integers_of_gptq_and_awq(published: Path, tmp_path: Path, case: str) -> None:
    pack, config = CASES[case]
    packed = copied(published, tmp_path / "packed")
    meant = replaced(packed, is_decoder, pack)
    change(packed, config, "quantization_config")
    check(packed, meant, published, tmp_path / "plain")


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (8, 32)])
def test_directories_of_mlx(published: Path, tmp_path: Path, bits: int, group: int) -> None:
    packed = copied(published, tmp_path / "packed")
    meant = replaced(packed, is_decoder, mlx(bits, group))
    tensors = {}
    for name, tensor in read_weights(packed).items():
        last = tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor
        tensors[name.removeprefix("thinker.")] = last
    write_weights(packed, tensors)
    change(packed, {"group_size": group, "bits": bits, "mode": "affine"}, "quantization")
    check(packed, meant, published, tmp_path / "plain")


def test_modules_of_mlx_with_other_bits(published: Path, tmp_path: Path) -> None:
    packed = copied(published, tmp_path / "packed")

    def pack(module: str, weight: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
        parts: tuple[dict[str, Tensor], np.ndarray]
        parts = (mlx(8, 64) if "o_proj" in module else mlx(4, 32))(module, weight)
        return parts

    meant = replaced(packed, is_decoder, pack)
    others = {
        name.removesuffix(".weight"): {"group_size": 64, "bits": 8}
        for name in meant
        if "o_proj" in name
    }
    change(packed, {"group_size": 32, "bits": 4, **others}, "quantization")
    check(packed, meant, published, tmp_path / "plain")


@pytest.mark.parametrize(
    ("key", "quantization", "named"),
    [
        ("quantization_config", {"quant_method": "bitsandbytes"}, "bitsandbytes"),
        ("quantization_config", {"quant_method": "gptq", "bits": 3}, "3 bits"),
        ("quantization_config", {"quant_method": "awq", "bits": 4, "version": "gemv"}, "gemv"),
        ("quantization_config", {"quant_method": "awq", "bits": 8}, "AWQ in 8 bits"),
        ("quantization_config", "fp8", "fp8"),
        ("quantization", {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "mxfp4"),
        ("quantization", {"bits": 6, "group_size": 64}, "6 bits"),
        ("quantization", {"bits": 4, "group_size": "64"}, "groups of '64'"),
    ],
)
def test_unknown_formats_are_named(
    published: Path, tmp_path: Path, key: str, quantization: dict[str, object], named: str
) -> None:
    packed = copied(published, tmp_path / "packed")
    assert read_integer_format(packed) is None
    change(packed, quantization, key)
    with pytest.raises(CheckpointError, match=named):
        read_integer_format(packed)


@pytest.mark.parametrize(
    ("part", "spoil"),
    [
        ("qzeros", None),
        ("qzeros", lambda part: part[:1]),
        ("qweight", lambda part: torch.tensor(1)),
        ("qweight", lambda part: part.long()),
        ("g_idx", lambda part: part[:-1]),
        ("g_idx", lambda part: part - 1),
    ],
)
def test_parts_that_do_not_fit(
    published: Path, tmp_path: Path, part: str, spoil: Callable[[Tensor], Tensor] | None
) -> None:
    packed = copied(published, tmp_path / "packed")
    replaced(packed, is_decoder, gptq(4, 16, 1, shuffled=part == "g_idx"))
    tensors = read_weights(packed)
    name = next(name for name in sorted(tensors) if name.endswith(part))
    whole = tensors.pop(name)
    if spoil is not None:
        tensors[name] = spoil(whole).contiguous()
    write_weights(packed, tensors)
    change(packed, {"quant_method": "gptq", "bits": 4}, "quantization_config")
    with pytest.raises(CheckpointError, match="A matrix of GPTQ has to have the parts"):
        weights_of(packed)


def test_groups_that_do_not_divide_the_columns(published: Path, tmp_path: Path) -> None:
    packed = copied(published, tmp_path / "packed")
    replaced(packed, is_decoder, gptq(4, 16, 1))
    tensors = {
        name: part[:3].contiguous() if name.endswith(("scales", "qzeros")) else part
        for name, part in read_weights(packed).items()
    }
    write_weights(packed, tensors)
    change(packed, {"quant_method": "gptq", "bits": 4}, "quantization_config")
    with pytest.raises(CheckpointError, match="A matrix of GPTQ has to have the parts"):
        weights_of(packed)
