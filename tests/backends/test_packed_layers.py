"""Packed models: rows do not depend on others, and scores are close to those of floats."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auris.backends import devices
from auris.backends.packed_layers import (
    EXACT_COLUMNS,
    Packed,
    PackedEmbedding,
    PackedLinear,
    integer_products,
    quantize_rows,
    swap,
)
from auris.backends.torch import TorchBackend
from auris.checkpoints import quantization_config
from auris.checkpoints.load import Model
from auris.checkpoints.packed_formats import Packing, as_matrix, pack
from auris.checkpoints.quantization_config import PACKED_DTYPES, Quantization
from auris.config import ModelConfig
from auris.models.qwen_asr import QwenAsr
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.tiny_models import ctc_config, qwen_config, tiny_model

PACKINGS = [Packing("int8"), Packing("int4", 32), Packing("int4", 128)]


def packed_model(config: ModelConfig, quantization: Quantization, seed: int = 0) -> Model:
    """A random model, packed in memory."""
    model = tiny_model(config, seed)
    weights = model.state_dict()
    swap(model, lambda name: quantization.packing(name, config))
    state = {name: tensor for name, tensor in weights.items() if name in model.state_dict()}
    for name, _ in list(model.named_modules()):
        packed = quantization.packing(name, config)
        if packed is not None:
            parts = pack(as_matrix(weights[f"{name}.weight"]), packed)
            state.update({f"{name}.{part}": tensor for part, tensor in parts.items()})
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def linear(packing: Packing, width: int = 200, rows: int = 90, bias: bool = True) -> PackedLinear:
    torch.manual_seed(width + rows)
    plain = nn.Linear(width, rows, bias=bias)
    packed = PackedLinear(plain, packing)
    state = pack(plain.weight.detach(), packing)
    packed.load_state_dict({**state, **({"bias": plain.bias} if bias else {})}, assign=True)
    return packed.requires_grad_(False)


def test_rows_are_integers_scaled_by_their_maximum() -> None:
    x = torch.randn(5, 64)
    x[3] = 0
    codes, scales = quantize_rows(x)
    assert codes.abs().amax(1).tolist() == [127, 127, 127, 0, 127]
    assert ((codes * scales - x).abs() <= scales / 2 * 1.0001).all()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("columns", [64, EXACT_COLUMNS, 2 * EXACT_COLUMNS + 192])
def test_integer_products_are_exact(
    columns: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On processors with products of integers and on others, up to the largest sums."""
    monkeypatch.setattr(devices, "multiplies_integers", lambda: fast)
    torch.manual_seed(columns)
    codes, integers = (torch.randint(-127, 128, (n, columns)).to(torch.int8) for n in (9, 20))
    codes[0], integers[0], integers[1] = 127, 127, -127
    found = integer_products(codes, integers)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), codes.long() @ integers.long().t())
    assert found[0, :2].tolist() == [127 * 127 * columns, -127 * 127 * columns]


@settings(deadline=None, max_examples=25)
@given(
    packing=st.sampled_from(PACKINGS),
    rows=st.integers(1, 21),
    width=st.integers(1, 300),
    outputs=st.integers(1, 80),
    loud=st.sampled_from([0.0, 1e-3, 1e5]),
)
def test_a_row_does_not_depend_on_other_rows(
    packing: Packing, rows: int, width: int, outputs: int, loud: float
) -> None:
    """Bit for bit, with any number of other rows, loud or silent."""
    layer = linear(packing, width, outputs)
    x = torch.randn(rows, width)
    alone = torch.cat([layer(row[None]) for row in x])
    assert torch.equal(layer(x), alone)
    x[0] *= loud
    assert torch.equal(layer(x)[1:], alone[1:])


@pytest.mark.parametrize("packing", PACKINGS)
def test_products_equal_those_of_the_packed_integers(packing: Packing) -> None:
    layer = linear(packing)
    x = torch.randn(3, 4, 200)
    codes, scales = quantize_rows(x.flatten(0, 1))
    weight = layer.integers[:, :200].double() * layer.scale.double()[:, None]
    wanted = (codes.double() * scales) @ weight.T + layer.bias.double()
    found = layer(x)
    assert found.shape == (3, 4, 90)
    assert torch.allclose(found.double().flatten(0, 1), wanted, rtol=1e-5, atol=1e-6)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_an_embedding_gives_vectors_and_scores() -> None:
    plain = nn.Embedding(50, 48)
    for packing in PACKINGS:
        packed = PackedEmbedding(plain, packing)
        packed.load_state_dict(pack(plain.weight.detach(), packing), assign=True)
        ids = torch.tensor([[3, 49], [0, 3]])
        vectors = packed(ids)
        assert vectors.dtype == torch.float32
        assert (vectors - plain(ids)).abs().max() < (0.02 if packing.dtype == "int8" else 0.4)
        assert packed.scores(vectors).shape == (2, 2, 50)


def test_nan_scores_stay_nan() -> None:
    """NaN must stay visible in the scores and not become a number."""
    layer = linear(Packing("int8"))
    x = torch.randn(3, 200)
    x[1, 7] = torch.nan
    found = layer(x)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def scores(model: Model, ids: list[list[int]]) -> list[Tensor]:
    backend = TorchBackend(model)
    cache = backend.new_cache(len(ids), 32)
    backend.admit(cache, len(ids))
    found = backend.extend(cache, ids, positions="all")
    return [row[: len(item)] for row, item in zip(found, ids, strict=True)]


@pytest.mark.parametrize(("dtype", "near"), [("int8", 0.997), ("int4", 0.9)])
def test_a_packed_decoder_scores_close_to_the_original(dtype: str, near: float) -> None:
    config = qwen_config(tied=dtype == "int8", decoder_layers=3)
    ids = [[5, 9, 200, 17, 31, 8]]
    (plain,) = scores(tiny_model(config), ids)
    (packed,) = scores(packed_model(config, Quantization(dtype)), ids)
    assert torch.cosine_similarity(plain, packed, dim=-1).min() > near


def test_packings_of_the_layers() -> None:
    config = qwen_config(tied=False)
    model = packed_model(config, Quantization("int4", 64))
    assert isinstance(model, QwenAsr)
    kinds = {
        name: module.packing.dtype
        for name, module in model.named_modules()
        if isinstance(module, Packed)
    }
    assert kinds["decoder.embed"] == kinds["decoder.head"] == "int8"
    assert kinds["encoder.layers.0.qkv"] == "int8"
    assert kinds["encoder.stem.conv2"] == kinds["encoder.stem.conv3"] == "int8"
    assert "encoder.stem.conv1" not in kinds
    assert {kinds[f"decoder.layers.{n}.down"] for n in (0, 1)} == {"int8"}
    assert "projector.out" not in kinds
    inner = Quantization("int4").packing(
        "decoder.layers.1.qkv", qwen_config(decoder_layers=3, tied=False)
    )
    assert inner == Packing("int4", 32)
    assert TorchBackend(model).new_cache(1, 4).keys.dtype == torch.bfloat16


def test_narrow_decoders_are_packed_in_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization_config, "LEAST_WIDTH", 512)
    kinds = [
        Quantization("int4").packing(
            "decoder.layers.1.qkv", qwen_config(decoder_layers=3, hidden=hidden)
        )
        for hidden in (256, 511, 512)
    ]
    assert kinds == [Packing("int8"), Packing("int8"), Packing("int4")]


def test_packed_encoder_states_do_not_depend_on_the_batch() -> None:
    for dtype in PACKED_DTYPES:
        backend = TorchBackend(packed_model(ctc_config(), Quantization(dtype)))
        torch.manual_seed(3)
        quiet, loud = torch.randn(128, 150), 30 * torch.randn(128, 150)
        both = backend.ctc_logits(backend.encode([quiet, loud]))
        (alone,) = backend.ctc_logits(backend.encode([quiet]))
        assert torch.allclose(both[0], alone, atol=1e-4)
