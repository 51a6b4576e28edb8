"""Other programs on the same weights, for the benchmark of speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch

from auris.diagnostics.reference import Reference
from auris.errors import UsageError
from auris.types import Samples

Clock = Callable[[], float]
"""Tells the time in seconds."""

StageTimes = dict[str, list[float]]
"""Seconds by stage."""

DTYPE = "bfloat16"
"""What peers compute in."""


class Peer(Protocol):
    """A program that transcribes a clip with the weights of a directory."""

    name: str

    def run(self, samples: Samples, tokens: int, now: Clock) -> StageTimes:
        """Decode exactly so many tokens of one clip, and time the stages "mel", "encode",
        "prefill", "token" (one time for each) and "total"."""


class TransformersPeer:
    """transformers on the CPU.

    Args:
        directory: a Qwen3-ASR model in any layout.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
    """

    def __init__(self, directory: Path) -> None:
        self.name = f"transformers {DTYPE}"
        self._reference = Reference(directory, DTYPE)
        self._now: Clock = time.perf_counter
        self._encoder_times: list[float] = []
        encoder = self._reference.model.model.audio_tower
        for register in (encoder.register_forward_pre_hook, encoder.register_forward_hook):
            register(lambda *_: self._encoder_times.append(self._now()))

    @torch.inference_mode()
    def run(self, samples: Samples, tokens: int, now: Clock) -> StageTimes:
        self._encoder_times.clear()
        self._now = now
        token_times: list[float] = []

        def after_token(ids: Any, scores: Any, **_: Any) -> Any:
            token_times.append(now())
            return torch.zeros(len(ids), dtype=torch.bool)

        began = now()
        inputs = self._reference.inputs(samples)
        inputs["input_features"] = inputs["input_features"].to(self._reference.model.dtype)
        ready = now()
        self._reference.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            stopping_criteria=[after_token],
        )
        encode = self._encoder_times[1] - self._encoder_times[0]
        return {
            "mel": [ready - began],
            "encode": [encode],
            "prefill": [token_times[0] - ready - encode],
            "token": [after - before for before, after in pairwise(token_times)],
            "total": [now() - began],
        }


PEERS = {"transformers": TransformersPeer}


def load_peer(name: str, directory: Path) -> Peer:
    """A peer by name, with the weights of a directory; UsageError where there is none."""
    if name not in PEERS:
        raise UsageError(
            f"The peers that can be measured are {', '.join(PEERS)}",
            f"{name!r} was given",
            "choose one of these",
        )
    return PEERS[name](directory)
