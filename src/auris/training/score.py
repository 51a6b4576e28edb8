"""Word error rates of a model in training on its development sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from auris.errors import MissingExtra
from auris.text.normalize import spoken
from auris.training.data import Clip
from auris.training.examples import floats
from auris.training.sampler import by_length
from auris.training.tasks import Task

__all__ = ["error_rates", "require_jiwer", "transcribe"]

BATCH_SECONDS = 50.0


def require_jiwer() -> Any:
    """The module jiwer.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra(
            "word error rates of development sets need jiwer",
            "it is not installed",
            "run `pip install auris-asr[train]`, or train without development sets",
        ) from error
    return jiwer


@torch.inference_mode()
def transcribe(
    task: Task,
    clips: Sequence[Clip],
    device: torch.device,
    bf16: bool = False,
    whole: bool = True,
) -> list[str]:
    """Greedy transcripts of clips, in their order; the model's mode is left as it was."""
    training = task.module.training
    task.module.eval()
    texts = [""] * len(clips)
    for batch in by_length([clip.seconds for clip in clips], BATCH_SECONDS):
        mels = [task.hearing.mel(floats(clips[i])).to(device) for i in batch]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            written = task.write(mels, [clips[i].prompt for i in batch], whole)
        for i, text in zip(batch, written, strict=True):
            texts[i] = text
    task.module.train(training)
    return texts


def error_rates(
    task: Task,
    sets: Mapping[str, Sequence[Clip]],
    device: torch.device,
    bf16: bool = False,
    whole: bool = True,
) -> dict[str, float]:
    """Word error rate of every set, as a fraction of its words."""
    if not sets:
        return {}
    jiwer = require_jiwer()
    rates = {}
    for name, clips in sets.items():
        said = [_compared(clip.text) for clip in clips]
        read = [_compared(text) for text in transcribe(task, clips, device, bf16, whole)]
        rates[name] = float(jiwer.wer(said, read))
    return rates


def _compared(text: str) -> str:
    """Words as spoken; a text without a spoken form as it stands."""
    return spoken(text) or text.lower()
