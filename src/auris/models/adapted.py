"""Linear layers with low-rank adapters that are not merged into their weights.

LoRA: Hu et al., "LoRA: Low-rank adaptation of large language models" (2021).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from auris.models.qwen_asr import QwenAsr

ADAPTED = ("qkv", "out", "gate_up", "down")
"""The linear layers of a decoder's block that may have adapters."""


@dataclass(frozen=True)
class LowRank:
    """An adapter of a layer: x is changed by scale * up @ down @ x.

    Attributes:
        down: [rank, in].
        up: [out, rank].
    """

    down: Tensor
    up: Tensor
    scale: float


class AdaptedLinear(nn.Module):
    """A linear layer and its adapter."""

    def __init__(self, base: nn.Linear, adapter: LowRank) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("down_weight", adapter.down.to(base.weight))
        self.register_buffer("up_weight", (adapter.up * adapter.scale).to(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        low = F.linear(x, self.get_buffer("down_weight"))
        base: Tensor = self.base(x)
        return base + F.linear(low, self.get_buffer("up_weight"))


def layer_names(model: QwenAsr) -> dict[str, tuple[int, int]]:
    """The layers that may have adapters, with their numbers of outputs and inputs."""
    names = {}
    for number, layer in enumerate(model.decoder.layers):
        for name in ADAPTED:
            linear = _base(getattr(layer, name))
            names[f"layers.{number}.{name}"] = (linear.out_features, linear.in_features)
    return names


def with_adapters(model: QwenAsr, adapters: Mapping[str, LowRank]) -> QwenAsr:
    """A model of the same weights, which are shared, with adapters; others that it had are left
    out.

    Args:
        adapters: by the names of `layer_names`.
    """
    tensors = [*model.parameters(), *model.buffers()]
    adapted = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for number, layer in enumerate(adapted.decoder.layers):
        for name in ADAPTED:
            linear = _base(getattr(layer, name))
            adapter = adapters.get(f"layers.{number}.{name}")
            setattr(layer, name, linear if adapter is None else AdaptedLinear(linear, adapter))
    return adapted


def _base(layer: nn.Module) -> nn.Linear:
    linear = layer.base if isinstance(layer, AdaptedLinear) else layer
    assert isinstance(linear, nn.Linear)
    return linear
