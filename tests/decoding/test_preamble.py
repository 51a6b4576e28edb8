"""Prompts in one pass, and the beginning that they share: the same scores as one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends.base import Cache
from auris.backends.torch import TorchBackend
from auris.checkpoints.quantization_config import Quantization
from auris.decoding.loop import DecodeLoop, Request, Step
from auris.decoding.preamble import WORTH_A_PASS, SharedPreamble
from auris.models.attention import Kernel
from auris.models.cache import KVCache
from tests.backends.fake import FakeBackend
from tests.backends.test_packed_layers import packed_model
from tests.ties import LOGITS
from tests.tiny_models import qwen_config, tiny_model

FLOAT = TorchBackend(tiny_model(seed=1))
PACKED = TorchBackend(packed_model(qwen_config(decoder_layers=3), Quantization("int8"), seed=1))


def embeddings(length: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, qwen_config().decoder.hidden, generator=generator)


def states(cache: Cache, row: int) -> list[Tensor]:
    """Keys and values of a row, layer by layer."""
    assert isinstance(cache, KVCache)
    filled = slice(cache.lengths[row])
    return [
        side[layer, row, :, filled] for side in (cache.keys, cache.values) for layer in range(2)
    ]


def extended(
    backend: TorchBackend, before: Sequence[int], lengths: Sequence[int], rows: Iterable[int]
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Scores behind rows of `before` positions that take `lengths` more in one pass; the cache."""
    rows = list(rows)
    cache = backend.new_cache(len(rows), 4)
    for row in backend.admit(cache, len(rows)):
        if before[rows[row]]:
            start = embeddings(before[rows[row]], 100 + rows[row])
            backend.extend(cache, [start], range(row, row + 1))
    prompts = [embeddings(lengths[row], row) for row in rows]
    scores = backend.extend(cache, prompts)[:, -1]
    return list(scores), [states(cache, row) for row in range(len(rows))]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(get_args(Kernel)))
def test_prompts_of_any_lengths_in_one_pass(data: st.DataObject, kernel: Kernel) -> None:
    """Scores, keys and values of all layers; rows may have positions already."""
    rows = data.draw(st.integers(1, 6))
    few = st.lists(st.sampled_from((1, 2, 3, 17, 40)), min_size=rows, max_size=rows)
    lengths, before = data.draw(few), [n - 1 for n in data.draw(few)]
    for backend in (TorchBackend(FLOAT.model, kernel), PACKED):
        scores, cached = extended(backend, before, lengths, range(rows))
        for row in range(rows):
            (alone,), (wanted,) = extended(backend, before, lengths, [row])
            if backend is PACKED and backend.native_decoder is not None:
                assert torch.equal(scores[row], alone)
                assert all(map(torch.equal, cached[row], wanted))
            elif backend is not PACKED:
                assert (scores[row] - alone).abs().max() < LOGITS
                for one, other in zip(cached[row], wanted, strict=True):
                    assert (one - other).abs().max() < LOGITS


@pytest.mark.parametrize("backend", [FLOAT, PACKED], ids=["float32", "int8"])
@pytest.mark.parametrize("groups", [[1, 1, 1], [5], [1, 4], [2, 1, 2]])
def test_scores_behind_a_shared_preamble(backend: TorchBackend, groups: list[int]) -> None:
    ids = tuple(range(40))
    prompts = [
        torch.cat((embeddings(len(ids), 9), embeddings(3 + 7 * n, n))) for n in range(sum(groups))
    ]
    shared, found = SharedPreamble(backend), []
    cache = backend.new_cache(len(prompts), 60)
    for size in groups:
        group = prompts[len(found) : len(found) + size]
        rows = backend.admit(cache, size)
        found += shared.prefill(cache, rows, [(ids, prompt) for prompt in group])
    assert list(cache.lengths) == [len(prompt) for prompt in prompts]
    for prompt, scores in zip(prompts, found, strict=True):
        alone = backend.new_cache(1, len(prompt))
        backend.admit(alone)
        wanted = backend.extend(alone, [prompt])[0, -1]
        if backend is PACKED and backend.native_decoder is not None:
            assert torch.equal(scores, wanted)
        elif backend is FLOAT:
            assert (scores - wanted).abs().max() < LOGITS


def prefilled(groups: Sequence[Sequence[tuple[int, ...]]]) -> list[list[int]]:
    """Positions in the passes of a loop that admits prompts of 20 more ids than their preambles."""
    backend = FakeBackend({n: [] for n in range(9)}, vocab=64, stop=0)
    loop = DecodeLoop(backend, {0}, rows=9)
    for group in groups:
        requests = [Request(n, [*ids, *[5] * 20], 3, preamble=ids) for n, ids in enumerate(group)]
        steps: list[Step] = loop.admit(requests)
        while loop.active:
            steps += loop.step()
    return backend.passes


def test_a_preamble_is_prefilled_once() -> None:
    one, other = (1,) * 10, (2,) * 10
    # It is stored the second time that it comes, and it stays while others come once.
    assert prefilled([[one]] * 3) == [[30], [30], [20]]
    assert prefilled([[one], [one], [other], [one]]) == [[30], [30], [30], [20]]
    assert prefilled([[one], [one], [other], [other], [other]])[-1] == [20]
    # In one pass with others, and alone where that spares enough.
    assert prefilled([[one, one, other], [one]]) == [[30, 30, 30], [20]]
    many = 2 + WORTH_A_PASS // 10
    assert prefilled([[one] * many]) == [[10], [20] * many]
    assert prefilled([[()] * 3]) == [[20] * 3]


def test_a_prompt_that_is_only_a_preamble() -> None:
    backend = FakeBackend({1: [7]}, vocab=64, stop=0)
    loop = DecodeLoop(backend, {0}, rows=1)
    for _ in range(3):
        (step,) = loop.admit([Request(0, [1], 3, preamble=(1,))])
        assert step.token == 7
        loop.step()
    assert backend.passes == [[1]] * 6
