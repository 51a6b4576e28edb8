"""The scripted backend follows the protocol of backends."""

from __future__ import annotations

import pytest
import torch

from auris.backends.base import Backend
from tests.backends.fake import FakeBackend

STOP = 9


def new() -> FakeBackend:
    return FakeBackend({1: [5, 6], 2: [7]}, vocab=10, stop=STOP)


def best(logits: torch.Tensor) -> list[list[int]]:
    return logits.argmax(-1).tolist()


def test_it_is_a_backend() -> None:
    backend: Backend = new()
    (states,) = backend.encode([torch.zeros(4, 7)])
    assert states.shape == (7, 4)
    assert backend.ctc_logits([states])[0] is states
    assert backend.embed([1, 5], None).tolist() == [[1.0], [5.0]]


def test_rows_produce_their_scripts_and_then_stop() -> None:
    backend = new()
    cache = backend.new_cache(2, 9)
    assert backend.admit(cache, 2) == range(2)
    assert best(backend.extend(cache, [[1], [2]])) == [[5], [7]]
    assert best(backend.extend(cache, [[5], [7]])) == [[6], [STOP]]
    assert best(backend.extend(cache, [[6]], range(1))) == [[STOP]]
    assert list(cache.lengths) == [3, 2]
    assert backend.passes == [[1, 1], [1, 1], [1]]


def test_all_positions_of_ids_and_of_embeddings() -> None:
    backend = new()
    cache = backend.new_cache(2, 9)
    backend.admit(cache, 2)
    logits = backend.extend(cache, [backend.embed([1, 5, 6], None), [2]], positions="all")
    assert logits.shape == (2, 3, 10)
    assert best(logits[0]) == [5, 6, STOP]
    assert best(logits[1, :1]) == [7]


def test_rows_over_the_capacity_are_refused() -> None:
    backend = new()
    cache = backend.new_cache(2, 9)
    backend.admit(cache)
    with pytest.raises(ValueError, match="room for 1 more rows, not 2"):
        backend.admit(cache, 2)


def test_rollback_and_dropping() -> None:
    backend = new()
    cache = backend.new_cache(3, 9)
    backend.admit(cache, 3)
    backend.extend(cache, [[1, 5], [2], [1]])
    backend.drop(cache, 0)
    assert cache.rows == [[1], [2]]
    backend.extend(cache, [[5, 6], [7]])
    backend.truncate(cache, 0, 1)
    assert best(backend.extend(cache, [[5]], range(1))) == [[6]]
    backend.drop(cache, 1)
    assert cache.rows == [[1, 5]]
