"""CUDA graphs without CUDA: what a capture records is run again from the same memory.

An operation that is recorded has the numbers of the host in it, and reads and writes the tensors
that it had. So a pass that needs another number of the host, or tensors that have moved, gives
wrong results when it is replayed, as it would on a GPU. Reading a tensor on the host is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("_local_scalar_dense", "is_nonzero", "equal")


class RecordedGraph:
    """Stands for `torch.cuda.CUDAGraph`."""

    made = 0

    def __init__(self) -> None:
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.replays = 0
        RecordedGraph.made += 1

    def replay(self) -> None:
        """Run the operations again; their results are written where they were."""
        self.replays += 1
        for function, arguments, named, before in self.operations:
            again = function(*arguments, **named)
            for old, new in zip(tree_leaves(before), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert not any(name in str(function) for name in READS), f"{function} reads on the host"
        results = function(*args, **(kwargs or {}))
        self._graph.operations.append((function, args, kwargs or {}, results))
        return results


@contextmanager
def _capture(graph: RecordedGraph, *_: object, **__: object) -> Iterator[None]:
    with _Recorder(graph):
        yield


class _Stream:
    def wait_stream(self, stream: _Stream) -> None:
        """There is one stream."""


class _Event:
    def record(self) -> None:
        """Nothing is asynchronous."""

    def synchronize(self) -> None:
        """Nothing is asynchronous."""


@contextmanager
def _on_stream(stream: _Stream) -> Iterator[None]:
    yield


def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auris.backends.cuda_graphs` run on the CPU."""
    empty = torch.empty

    def unpinned(*arguments: Any, pin_memory: bool = False, **named: Any) -> Tensor:
        return empty(*arguments, **named)

    monkeypatch.setattr(torch, "empty", unpinned)
    for name, value in {
        "graph_pool_handle": lambda: (0, 0),
        "CUDAGraph": RecordedGraph,
        "graph": _capture,
        "Stream": _Stream,
        "Event": _Event,
        "stream": _on_stream,
        "current_stream": _Stream,
        "synchronize": lambda device: None,
        "device": lambda device: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
