"""Matrices in 8 and 4 bits: the values that they represent, and their errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.checkpoints.packed_formats import GROUPS, Packing, integers, pack, packed_shapes

PACKINGS = [
    Packing("int8", halves=True),
    Packing("int8"),
    *(Packing("int4", group) for group in GROUPS),
]


def restored(packed: dict[str, torch.Tensor], width: int) -> torch.Tensor:
    whole = integers(packed["weight"], packed.get("steps"), packed.get("lower"))
    assert not whole[:, width:].any(), "columns of padding have to be zeros"
    return whole[:, :width].float() * packed["scale"][:, None]


@settings(deadline=None, max_examples=40)
@given(
    packing=st.sampled_from(PACKINGS),
    rows=st.integers(1, 70),
    width=st.integers(1, 300),
    seed=st.integers(0, 99),
    size=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_unpacked_weights_differ_by_at_most_half_a_step(
    packing: Packing, rows: int, width: int, seed: int, size: float
) -> None:
    weight = size * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    packed = pack(weight, packing)
    found = {name: (tensor.dtype, list(tensor.shape)) for name, tensor in packed.items()}
    assert found == packed_shapes(rows, width, packing)
    error = (restored(packed, width) - weight).abs()
    largest = weight.abs().amax(1, keepdim=True)
    if packing.dtype == "int8":
        assert (error <= largest / 254 * 1.001).all()
    else:  # A clipped value may have a larger error where that reduces the error of its group.
        spread = error.square().mean(1, keepdim=True).sqrt()
        assert (spread <= largest / 14 * 1.001).all()


def test_four_bit_groups_have_their_own_scale() -> None:
    """A group of small values next to one of large values keeps its own resolution."""
    weight = torch.randn(4, 256, generator=torch.Generator().manual_seed(1))
    weight[:, :128] *= 0.1
    found = restored(pack(weight, Packing("int4", 32)), 256)
    error = (found - weight)[:, :128].std() / weight[:, :128].std()
    assert error < 0.15


def test_smaller_groups_are_more_exact() -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(2))
    errors = [(restored(pack(weight, p), 512) - weight).square().mean() for p in PACKINGS]
    assert errors == sorted(errors)


@pytest.mark.parametrize("packing", PACKINGS)
def test_zeros_are_exact(packing: Packing) -> None:
    packed = pack(torch.zeros(3, 130), packing)
    assert torch.equal(restored(packed, 130), torch.zeros(3, 130))


def test_half_precision_packs_like_float32() -> None:
    weight = torch.randn(9, 64).bfloat16()
    for packing in PACKINGS:
        ours, wide = pack(weight, packing), pack(weight.float(), packing)
        assert all(torch.equal(ours[name], wide[name]) for name in wide)


def test_unknown_packings_are_refused() -> None:
    with pytest.raises(ValueError, match="int5"):
        Packing("int5")
    with pytest.raises(ValueError, match="groups of 48"):
        Packing("int4", 48)
