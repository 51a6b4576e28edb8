"""Word error rates of a model in training on its development sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer

from auris.audio.mel import log_mel
from auris.decoding.ctc import greedy
from auris.errors import MissingExtra
from auris.models.aut_ctc import AutCtc
from auris.training.data import Clip
from auris.training.examples import floats
from auris.training.sampler import by_length

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
    model: AutCtc, tokenizer: Tokenizer, clips: Sequence[Clip], bf16: bool = False
) -> list[str]:
    """Greedy transcripts of clips, in their order; the model's mode is left as it was."""
    training = model.training
    model.eval()
    config = model.config
    texts = [""] * len(clips)
    for batch in by_length([clip.seconds for clip in clips], BATCH_SECONDS):
        mels = [log_mel(floats(clips[i]), config.frontend, config.encoder.mel_bins) for i in batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, lengths = model(mels)
        for i, rows in zip(batch, torch.split(logits, lengths), strict=True):
            path = greedy(rows, config.blank)
            texts[i] = tokenizer.decode(list(path.ids), skip_special_tokens=False).strip()
    model.train(training)
    return texts


def error_rates(
    model: AutCtc, tokenizer: Tokenizer, sets: Mapping[str, Sequence[Clip]], bf16: bool = False
) -> dict[str, float]:
    """Word error rate of every set, as a fraction of its words."""
    jiwer = require_jiwer()
    return {
        name: float(
            jiwer.wer([clip.text for clip in clips], transcribe(model, tokenizer, clips, bf16))
        )
        for name, clips in sets.items()
    }
