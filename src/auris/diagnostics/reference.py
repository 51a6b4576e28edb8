"""transformers, the reference implementation, on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from auris.checkpoints.export import convert
from auris.checkpoints.load import open_checkpoint
from auris.errors import MissingExtra
from auris.text.reply import Reply
from auris.types import SAMPLE_RATE, Samples


class Reference:
    """A Qwen3-ASR model in transformers.

    Args:
        directory: of a model in any layout; transformers reads the hf layout, so another one is
            converted into a temporary directory first.
        dtype: to compute in, by name.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
    """

    def __init__(self, directory: Path, dtype: str) -> None:
        try:
            from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration
        except ImportError:
            raise MissingExtra(
                "Comparing with transformers needs version 5.23 or newer",
                "it is not installed, or older",
                "run pip install 'auris-asr[reference]'",
            ) from None
        with tempfile.TemporaryDirectory() as scratch:
            if open_checkpoint(directory).layout != "hf":
                directory = convert(directory, Path(scratch) / "hf", "hf")
            self.processor = AutoProcessor.from_pretrained(directory)
            model = Qwen3ASRForConditionalGeneration.from_pretrained(
                directory, dtype=getattr(torch, dtype)
            )
            self.model = model.eval()

    def inputs(
        self, samples: Samples | list[Samples], language: str | None = None, context: str = ""
    ) -> Any:
        """The inputs of the model for a request, or for several."""
        return self.processor.apply_transcription_request(
            samples,
            language=language,
            prompt=context,
            processor_kwargs={"sampling_rate": SAMPLE_RATE},
        )

    def generate(self, inputs: Any, budget: int, stops: Collection[int]) -> list[int]:
        """The greedy continuation, without the stop token."""
        generated = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=budget, eos_token_id=sorted(stops)
        )
        ids: list[int] = generated[0, inputs["input_ids"].shape[1] :].tolist()
        end = next((index for index, token in enumerate(ids) if token in stops), len(ids))
        return ids[:end]

    def reply(self, ids: list[int]) -> Reply:
        """Language and text of a continuation."""
        decoded = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        parsed = self.processor.parse_output(decoded)
        return Reply(parsed["language"], parsed["transcription"])
