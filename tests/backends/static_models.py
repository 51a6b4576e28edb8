"""Backends with a static step, and a model whose texts are known in advance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from auris.backends.cuda_graphs import CapturedPasses
from auris.backends.static_step import StaticSteps
from auris.backends.torch import TorchBackend
from auris.decoding.repetition import Repetition
from auris.models.attention import Kernel
from auris.models.qwen_asr import QwenAsr
from tests.tiny_models import qwen_config, tiny_model

VOCAB = 40


def static_backend(model: QwenAsr, captured: bool = False, kernel: Kernel = "auto") -> TorchBackend:
    """A backend whose passes are run plainly, or captured and replayed (see `captured`)."""
    backend = TorchBackend(model, kernel, static=True)
    if captured:
        runner = partial(CapturedPasses, torch.device("cpu"))
        backend.static = StaticSteps(model.decoder, kernel, runner)
    return backend


def successor_model() -> QwenAsr:
    """A model of `VOCAB` ids in which the best next id depends on the last one alone."""
    config = qwen_config(tied=False, decoder_layers=1)
    config = replace(config, decoder=replace(config.decoder, vocab=VOCAB), audio_token_id=0)
    model = tiny_model(config)
    assert isinstance(model, QwenAsr)
    decoder = model.decoder
    with torch.no_grad():
        for layer in decoder.layers:
            layer.out.weight.zero_()
            layer.down.weight.zero_()
        decoder.norm.weight.fill_(1.0)
        decoder.embed.weight.copy_(torch.eye(VOCAB, config.decoder.hidden))
    return model


def set_successors(model: QwenAsr, successors: Sequence[int]) -> None:
    """Let id number n be followed by successors[n]. The weights do not move."""
    with torch.no_grad():
        model.decoder.head.weight.zero_()
        model.decoder.head.weight[list(successors), torch.arange(VOCAB)] = 1.0


def text_after(
    successors: Sequence[int], last: int, budget: int, stops: Sequence[int], prefix: Sequence[int]
) -> tuple[list[int], str]:
    """The text of such a model behind a prompt that ends in `last`, and why it ends."""
    ids: list[int] = []
    repetition = Repetition()
    while True:
        forced = len(ids) < len(prefix)
        token = prefix[len(ids)] if forced else successors[ids[-1] if ids else last]
        if token in stops:
            return ids, "stop"
        if len(ids) == budget:
            return ids, "length"
        ids.append(token)
        if repetition.add(token) is not None:
            return ids, "loop"
