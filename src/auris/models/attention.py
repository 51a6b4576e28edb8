"""The only caller of scaled dot-product attention.

Two shapes of attention occur: the encoder's, inside windows of a packed sequence, and the
decoder's, over a cache with rows of different length. The kernel is an argument, and every
kernel gives the same result up to rounding. Training on a CPU always takes plain products.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

Kernel = Literal["auto", "flash", "efficient", "math"]

KERNELS: dict[Kernel, list[SDPBackend]] = {
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "math": [SDPBackend.MATH],
}
"""Kernels by name; those that do not take every shape fall back to plain matrix products."""


@contextlib.contextmanager
def kernel_choice(kernel: Kernel) -> Iterator[None]:
    """Run what is inside with one attention kernel; "auto" leaves the choice to torch."""
    if kernel == "auto":
        yield
        return
    with sdpa_kernel(KERNELS[kernel]):
        yield


@dataclass(frozen=True)
class Windows:
    """How a packed sequence falls into attention windows, grouped by equal length.

    Attributes:
        groups: for every distinct length the window length and where its windows lie, one after
            the other: packed positions [windows * length], or the span that they are.
    """

    groups: tuple[tuple[int, Tensor | slice], ...]

    @classmethod
    def of(cls, lengths: Sequence[int], window: int, device: torch.device) -> Windows:
        """Cut packed clips of `lengths` tokens into windows of at most `window` tokens."""
        starts: dict[int, list[int]] = {}
        offset = 0
        for length in lengths:
            for first in range(0, length, window):
                starts.setdefault(min(window, length - first), []).append(offset + first)
            offset += length
        groups: list[tuple[int, Tensor | slice]] = []
        for size, firsts in starts.items():
            end = firsts[0] + size * len(firsts)
            if firsts == list(range(firsts[0], end, size)):
                # Side by side, as those of one clip are: nothing has to be gathered.
                groups.append((size, slice(firsts[0], end)))
                continue
            positions = torch.tensor(firsts, device=device)[:, None] + torch.arange(
                size, device=device
            )
            groups.append((size, positions.flatten()))
        return cls(tuple(groups))


def _products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a mask as two matrix products, shapes as in `windowed_attention`'s dense
    batches. On a CPU its backward pass takes a quarter of the fused kernel's time on windows as
    short as the encoder's."""
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.matmul(scores.softmax(-1), v)


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.requires_grad and q.device.type == "cpu":
        return _products(q, k, v)
    return scaled_dot_product_attention(q, k, v)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, windows: Windows) -> Tensor:
    """Attention inside windows.

    Every window is attended without a mask, equal lengths as one dense batch: there is no
    padding that a kernel could treat in its own way.

    Args:
        q, k, v: [N, heads, head_dim], packed.

    Returns:
        [N, heads, head_dim].
    """
    if len(windows.groups) == 1 and windows.groups[0][0] == len(q):
        q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
        return _dense(q, k, v)[0].transpose(0, 1)
    result = torch.empty_like(q)
    for size, positions in windows.groups:
        q_w, k_w, v_w = (t[positions].unflatten(0, (-1, size)).transpose(1, 2) for t in (q, k, v))
        attended = _dense(q_w, k_w, v_w).to(q.dtype)
        result[positions] = attended.transpose(1, 2).flatten(0, 1)
    return result


def cached_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Grouped-query attention over cached keys.

    Args:
        q: [B, heads, T, head_dim]; k, v: [B, kv_heads, S, head_dim].
        mask: bool [B, 1, T, S], true where a query may look, or None.
        causal: query i looks at keys 0..i (only for T == S without a mask).

    Returns:
        [B, heads, T, head_dim].
    """
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def single_query_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Grouped-query attention of one query a row over cached keys.

    The queries that share a head of keys are given as queries of one head, so every kernel takes
    them without copies of the keys.

    Args:
        q: [B, heads, 1, head_dim]; k, v: [B, kv_heads, S, head_dim].
        mask: added to the scores, [B, 1, 1, S] in the dtype of the queries.

    Returns:
        [B, heads, 1, head_dim].
    """
    grouped = q.reshape(len(q), k.shape[1], -1, q.shape[-1])
    return scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(q.shape)
