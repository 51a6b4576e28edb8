"""Low-rank adapters on a decoder's linear layers.

LoRA: Hu et al., "LoRA: Low-rank adaptation of large language models" (2021), by peft.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

import torch
from torch import nn

from auris.errors import MissingExtra
from auris.models.qwen_asr import QwenAsr

__all__ = ["adapt", "merged", "require_peft"]

ADAPTED = ["qkv", "out", "gate_up", "down"]
"""The decoder's linear layers."""


def adapt(model: QwenAsr, rank: int, alpha: float) -> None:
    """Freeze all weights and put adapters of a rank on the decoder's linear layers.

    Raises:
        MissingExtra: peft is not installed.
    """
    peft = require_peft()
    model.requires_grad_(False)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=ADAPTED)
    peft.inject_adapter_in_model(config, model.decoder)


def merged(model: QwenAsr) -> QwenAsr:
    """The model with its adapters, if it has any, added to the weights they adapt."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = copy.deepcopy(model)
    adapted = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, child = name.rpartition(".")
        base: nn.Module = layer.get_base_layer()
        setattr(model.get_submodule(parent), child, base)
    return model


def require_peft() -> Any:
    """The module peft.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        if torch.distributed.is_available():
            # peft looks up a type in it, and torch 2.5 does not load it by itself.
            importlib.import_module("torch.distributed.tensor")
        import peft
    except ImportError as error:
        raise MissingExtra(
            "Low-rank adapters need peft",
            "it is not installed",
            "run `pip install auris-asr[lora]`, or set lora_rank to 0",
        ) from error
    return peft
