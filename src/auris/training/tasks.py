"""What the training loop needs of a model: its losses, its transcripts and its export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from auris.checkpoints.export import export
from auris.decoding.ctc import greedy
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainedOn
from auris.training.examples import Preprocessor, TrainingBatch
from auris.training.losses import ctc_loss

__all__ = ["CtcTask", "Encode", "Task", "best_path", "compiled"]

Encode = Callable[[Sequence[Tensor], Sequence[int]], tuple[list[Tensor], list[int]]]
"""`AudioEncoder.states`: log-mels and numbers of layers to states after each, and lengths."""


class Task(Protocol):
    """A model with its loss and its way to write text.

    Attributes:
        preprocessor: what batches are made with.
        tokenizer: spells the texts.
    """

    preprocessor: Preprocessor
    tokenizer: Tokenizer

    @property
    def module(self) -> nn.Module:
        """Everything with weights; called with a batch and whether every part of it is trained
        yet, it gives `sums` and `counts` of `auris.training.losses.Losses`."""

    def trains_all_parts(self, step: int) -> bool:
        """Whether every part of the model takes part in step `step` (from 0)."""

    def compile(self, device: torch.device) -> None:
        """Compile what can be compiled for a device."""

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """Texts of clips with their prompts' contexts; `all_parts` as in training."""

    def check_export(self) -> None:
        """Refuse a model that its layout cannot hold, which need not wait for the end of a run.

        Raises:
            ConfigError: the layout has no words for the model.
        """

    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """Write the model as a model directory."""


class CtcObjective(nn.Module):
    """The loss of an encoder with a CTC head.

    Args:
        model: the model.
        depths: numbers of layers whose states the head scores, and their shares in the loss.
    """

    def __init__(self, model: AutCtc, depths: Mapping[int, float]) -> None:
        super().__init__()
        self.model = model
        self.depths = dict(depths)
        self.encode: Encode = model.encoder.states

    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood [1], and units [1]."""
        encode = self.encode if self.training else self.model.encoder.states
        found, lengths = encode(batch.mels, list(self.depths))
        blank = self.model.config.blank
        losses = [
            share * ctc_loss(self.model.head(states), lengths, batch.targets, blank)
            for states, share in zip(found, self.depths.values(), strict=True)
        ]
        units = float(sum(map(len, batch.targets)))
        return torch.stack([sum(losses[1:], losses[0])]), losses[0].new_tensor([units])


def compiled(encode: Encode, device: torch.device) -> Encode:
    """An encoder for batches of one shape; on an accelerator that has graphs, as a CUDA graph."""
    mode = None if device.type == "cpu" else "reduce-overhead"
    result: Encode = torch.compile(encode, dynamic=False, mode=mode)
    return result


class CtcTask:
    """Training of an `AutCtc`."""

    def __init__(
        self,
        model: AutCtc,
        tokenizer: Tokenizer,
        frames: int | None = None,
        depths: Mapping[int, float] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.objective = CtcObjective(model, depths or {model.config.encoder.layers: 1.0})
        config = model.config
        bins = config.encoder.mel_bins
        self.preprocessor = Preprocessor(config.frontend, bins, tokenizer.encode, frames)

    @property
    def module(self) -> nn.Module:
        """The model with its loss."""
        return self.objective

    def trains_all_parts(self, step: int) -> bool:
        """Always: the model has one part."""
        return True

    def compile(self, device: torch.device) -> None:
        """The encoder in training; clips that are only scored have many shapes."""
        self.objective.encode = compiled(self.model.encoder.states, device)

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """Best paths."""
        logits, lengths = self.model(mels)
        blank = self.model.config.blank
        return [best_path(rows, blank, self.tokenizer) for rows in logits.split(lengths)]

    def check_export(self) -> None:
        """Nothing to check: the native layout holds every model."""

    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """In the native layout, norms over the batch folded into the convolutions."""
        model = fold_batch_norm(self.model)
        return export(model, model.config, self.tokenizer, out, dtype=dtype)


def best_path(logits: Tensor, blank: int, tokenizer: Tokenizer) -> str:
    """Text of the best path of one clip."""
    return tokenizer.decode(greedy(logits, blank).ids).strip()
