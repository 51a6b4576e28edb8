"""Other programs on the same weights, for the benchmark of speed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch

from auris.checkpoints.export import convert
from auris.checkpoints.load import open_checkpoint
from auris.errors import MissingExtra, UsageError
from auris.types import SAMPLE_RATE, Samples

__all__ = ["PEERS", "Peer", "TransformersPeer", "load_peer"]


class Peer(Protocol):
    """A program that transcribes a clip with the weights of a directory."""

    name: str

    def run(
        self, samples: Samples, tokens: int, now: Callable[[], float]
    ) -> dict[str, list[float]]:
        """Seconds by stage of one clip and exactly so many tokens, by a clock: "mel", "encode",
        "prefill", "token" (one for each) and "total"."""


class TransformersPeer:
    """transformers on the CPU, with the stages that it has hooks for.

    Args:
        directory: a Qwen3-ASR model in any layout; transformers reads the hf layout, so another
            one is converted into a temporary directory first.
        dtype: to compute in, by name.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
    """

    def __init__(self, directory: Path, dtype: str) -> None:
        try:
            from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration
        except ImportError:
            raise MissingExtra(
                "Measuring transformers needs version 5.23 or newer",
                "it is not installed, or older",
                "run pip install 'auris-asr[reference]'",
            ) from None
        self.name = f"transformers {dtype}"
        with tempfile.TemporaryDirectory() as scratch:
            if open_checkpoint(directory).layout != "hf":
                directory = convert(directory, Path(scratch) / "hf", "hf")
            self.processor = AutoProcessor.from_pretrained(directory)
            loaded = Qwen3ASRForConditionalGeneration.from_pretrained(
                directory, dtype=getattr(torch, dtype)
            )
            self.model = loaded.eval()
        self._now: Callable[[], float] = time.perf_counter
        self._tower: list[float] = []
        tower = self.model.model.audio_tower
        for register in (tower.register_forward_pre_hook, tower.register_forward_hook):
            register(lambda *_: self._tower.append(self._now()))

    @torch.inference_mode()
    def run(
        self, samples: Samples, tokens: int, now: Callable[[], float]
    ) -> dict[str, list[float]]:
        """See `Peer.run`."""
        self._tower.clear()
        self._now = now
        ends: list[float] = []

        def watch(ids: Any, scores: Any, **_: Any) -> Any:
            ends.append(now())
            return torch.zeros(len(ids), dtype=torch.bool)

        began = now()
        inputs = self.processor.apply_transcription_request(
            samples, processor_kwargs={"sampling_rate": SAMPLE_RATE}
        )
        inputs["input_features"] = inputs["input_features"].to(self.model.dtype)
        ready = now()
        self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            stopping_criteria=[watch],
        )
        encode = self._tower[1] - self._tower[0]
        return {
            "mel": [ready - began],
            "encode": [encode],
            "prefill": [ends[0] - ready - encode],
            "token": [after - before for before, after in pairwise(ends)],
            "total": [now() - began],
        }


PEERS = {"transformers": TransformersPeer}


def load_peer(name: str, directory: Path, dtype: str) -> Peer:
    """A peer by name.

    Raises:
        UsageError: there is none of that name.
        MissingExtra: it is not installed.
    """
    if name not in PEERS:
        raise UsageError(
            f"The peers that can be measured are {', '.join(PEERS)}",
            f"{name!r} was asked",
            "choose one of these",
        )
    return PEERS[name](directory, dtype)
