"""Norms, position tables and attention against their definitions in float64."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.models.attention import (
    KERNELS,
    Kernel,
    Windows,
    cached_attention,
    kernel_choice,
    windowed_attention,
)
from auris.models.layers import RMSNorm, rope_tables, rotate, sinusoids


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(q: Tensor, k: Tensor, v: Tensor, may_look: np.ndarray) -> Tensor:
    """softmax(q k / sqrt(d)) v for one head: [T, d], [S, d], [S, d], bool [T, S]."""
    scores = (q.double() @ k.double().T).numpy() / math.sqrt(q.shape[1])
    scores[~may_look] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return torch.from_numpy(weights) @ v.double()


def test_rms_norm_equals_its_definition() -> None:
    norm = RMSNorm(6, eps=1e-3)
    norm.weight.data = noise(6, seed=1)
    x = noise(4, 6) * torch.tensor([[1.0], [1e-4], [1e4], [0.0]])
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert torch.allclose(norm(x).double(), exact * norm.weight.double(), rtol=1e-6, atol=1e-9)
    assert norm(x.bfloat16()).dtype == torch.promote_types(torch.bfloat16, norm.weight.dtype)


def test_sinusoids() -> None:
    table = sinusoids(13, 10)
    assert table.shape == (13, 10)
    for position in range(13):
        for index in range(5):
            angle = position * math.exp(-math.log(10_000) / 4 * index)
            assert float(table[position, index]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, 5 + index]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_rotation_turns_pairs_of_split_halves() -> None:
    positions = torch.tensor([[0, 1, 5, 4000]])
    x = noise(1, 4, 8)
    cos, sin = rope_tables(positions, 8, theta=1e6)
    turned = rotate(x, cos, sin)
    for row, position in enumerate(positions[0].tolist()):
        for pair in range(4):
            angle = position * 1e6 ** (-2 * pair / 8)
            first, second = float(x[0, row, pair]), float(x[0, row, pair + 4])
            c, s = math.cos(angle), math.sin(angle)
            assert float(turned[0, row, pair]) == pytest.approx(first * c - second * s, abs=1e-3)
            assert float(turned[0, row, pair + 4]) == pytest.approx(
                second * c + first * s, abs=1e-3
            )


def test_rotated_products_depend_on_distance_only() -> None:
    q, k = noise(1, 1, 16), noise(1, 1, 16, seed=1)

    def product(first: int, second: int) -> float:
        tables = [rope_tables(torch.tensor([[place]]), 16, 1e4) for place in (first, second)]
        return float((rotate(q, *tables[0]) * rotate(k, *tables[1])).sum())

    assert product(7, 3) == pytest.approx(product(107, 103), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 30),
    st.sampled_from(get_args(Kernel)),
)
def test_windows(lengths: list[int], window: int, kernel: Kernel) -> None:
    """Every token attends to the tokens of its own clip and window, and to no other."""
    total = sum(lengths)
    q, k, v = (noise(total, 2, 4, seed=seed) for seed in range(3))
    owner = [
        (clip, place // window) for clip, length in enumerate(lengths) for place in range(length)
    ]
    may_look = np.array([[one == other for other in owner] for one in owner])
    cut = Windows.of(lengths, window, torch.device("cpu"))
    everywhere = torch.arange(total)
    places = torch.cat([everywhere[group] for _, group in cut.groups])
    assert sorted(places.tolist()) == list(range(total))
    with kernel_choice(kernel):
        result = windowed_attention(q, k, v, cut)
    for head in range(2):
        exact = by_definition(q[:, head], k[:, head], v[:, head], may_look)
        assert torch.allclose(result[:, head].double(), exact, atol=1e-5)


@pytest.mark.parametrize("kernel", get_args(Kernel))
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_cached_attention_groups_heads_and_applies_the_mask(kernel: Kernel, kv_heads: int) -> None:
    q, k, v = noise(2, 4, 3, 8), noise(2, kv_heads, 5, 8, seed=1), noise(2, kv_heads, 5, 8, seed=2)
    mask = torch.tensor([[[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]] * 2).bool()
    mask[1, :, 4] = True
    with kernel_choice(kernel):
        result = cached_attention(q, k, v, mask[:, None], causal=False)
    for row in range(2):
        for head in range(4):
            keys, values = k[row, head * kv_heads // 4], v[row, head * kv_heads // 4]
            exact = by_definition(q[row, head], keys, values, mask[row].numpy())
            assert torch.allclose(result[row, head].double(), exact, atol=1e-5)


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_causal_attention(kernel: Kernel) -> None:
    q, k, v = (noise(1, 2, 6, 8, seed=seed) for seed in range(3))
    with kernel_choice(kernel):
        result = cached_attention(q, k, v, None, causal=True)
    for head in range(2):
        exact = by_definition(q[0, head], k[0, head], v[0, head], np.tri(6, dtype=bool))
        assert torch.allclose(result[0, head].double(), exact, atol=1e-5)


def test_every_selectable_kernel_exists() -> None:
    assert set(get_args(Kernel)) == {"auto", *KERNELS}
