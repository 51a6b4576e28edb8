"""Passes of the static step as CUDA graphs.

Nothing but what CUDA needs is here. What the passes compute is the same without CUDA, and tests
compare it there. This file has not been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auris.backends.static_state import TextTable
from auris.backends.static_step import Shape

WARM_UP_PASSES = 2
"""Passes before a capture, in which libraries allocate what they keep."""


class CapturedPasses:
    """Captures a pass when its shape occurs first, and replays it from then on.

    Args:
        device: of the passes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: dict[Shape, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        # Graphs whose captures share a stream and a pool share memory. They never run at once.
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()
            self._pool = torch.cuda.graph_pool_handle()

    def run(self, shape: Shape, one_pass: Callable[[], Tensor], table: TextTable) -> Tensor:
        with torch.cuda.device(self._device):
            if shape not in self._graphs:
                self._graphs[shape] = self._capture(one_pass, table)
            graph, results = self._graphs[shape]
            graph.replay()
        return results

    def forget(self) -> None:
        # A graph may still be running.
        torch.cuda.synchronize(self._device)
        self._graphs.clear()

    def fetch(self, results: Tensor) -> Callable[[], Tensor]:
        host = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
        with torch.cuda.device(self._device):
            host.copy_(results, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()

        def wait() -> Tensor:
            copied.synchronize()
            return host

        return wait

    def _capture(
        self, one_pass: Callable[[], Tensor], table: TextTable
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Capture a pass. It warms up without active slots, so that it changes no text."""
        active = table.active.clone()
        table.active.zero_()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_PASSES):
                one_pass()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device during a capture.
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            results = one_pass()
        table.active.copy_(active)
        return graph, results
