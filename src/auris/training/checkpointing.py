"""Gradient checkpointing: layers keep their inputs only, and are computed again backwards.

Chen et al., "Training deep nets with sublinear memory cost" (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr


def checkpoint_layers(model: AutCtc | QwenAsr) -> None:
    """Compute the layers of a model with gradient checkpointing from now on.

    The results are the same, bit for bit; random numbers are drawn again as they were.
    """
    layers = list(model.encoder.layers)
    if isinstance(model, QwenAsr):
        layers += model.decoder.layers
    for layer in layers:
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(*arguments: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return forward(*arguments)
        result: torch.Tensor = checkpoint(forward, *arguments, use_reentrant=False)
        return result

    return run
