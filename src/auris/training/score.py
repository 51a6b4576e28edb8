"""Word error rates of a model in training on its development sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from auris.evaluation.wer import normalizer_named, require_jiwer
from auris.training.data import TrainingClip
from auris.training.examples import floats
from auris.training.sampler import by_length
from auris.training.tasks import Task

__all__ = ["error_rates", "transcribe"]

BATCH_SECONDS = 50.0


@torch.inference_mode()
def transcribe(
    task: Task,
    clips: Sequence[TrainingClip],
    device: torch.device,
    bf16: bool = False,
    whole: bool = True,
) -> list[str]:
    """Greedy transcripts of clips, in their order; the model's mode is left as it was."""
    preprocessor = dataclasses.replace(task.preprocessor, frames=None)  # As users' clips are heard.
    training = task.module.training
    task.module.eval()
    texts = [""] * len(clips)
    for batch in by_length([clip.seconds for clip in clips], BATCH_SECONDS):
        mels = [preprocessor.mel(floats(clips[i])).to(device) for i in batch]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            written = task.write(mels, [clips[i].prompt for i in batch], whole)
        for i, text in zip(batch, written, strict=True):
            texts[i] = text
    task.module.train(training)
    return texts


def error_rates(
    task: Task,
    sets: Mapping[str, Sequence[TrainingClip]],
    device: torch.device,
    bf16: bool = False,
    whole: bool = True,
) -> dict[str, float]:
    """Word error rate of every set, as a fraction of its words.

    Raises:
        MissingExtra: there are sets, and jiwer is not installed.
    """
    if not sets:
        return {}
    jiwer, compared = require_jiwer(), normalizer_named("spoken")
    rates = {}
    for name, clips in sets.items():
        said = [compared(clip.text) for clip in clips]
        read = [compared(text) for text in transcribe(task, clips, device, bf16, whole)]
        rates[name] = float(jiwer.wer(said, read))
    return rates
