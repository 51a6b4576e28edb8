"""What is trained, apart from how: the loop's view of a model and its losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from auris.decoding.ctc import greedy
from auris.export import export
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.text.tokenizer import Tokenizer
from auris.training.examples import Preprocessor, TrainingBatch
from auris.training.losses import ctc_loss

__all__ = ["CtcTask", "Task", "best_path"]


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

    def whole(self, step: int) -> bool:
        """Whether every part of the model takes part in step `step` (from 0)."""

    def compile(self) -> None:
        """Compile what can be compiled."""

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], whole: bool) -> list[str]:
        """Texts of clips with their prompts' contexts; `whole` as in training."""

    def export(self, out: Path, dtype: torch.dtype) -> Path:
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
        self.encode = model.encoder.states

    def forward(self, batch: TrainingBatch, whole: bool = True) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood [1], and units [1]."""
        found, lengths = self.encode(batch.mels, list(self.depths))
        blank = self.model.config.blank
        losses = [
            share * ctc_loss(self.model.head(states), lengths, batch.targets, blank)
            for states, share in zip(found, self.depths.values(), strict=True)
        ]
        units = float(sum(map(len, batch.targets)))
        return torch.stack([sum(losses[1:], losses[0])]), losses[0].new_tensor([units])


class CtcTask:
    """Training of an `AutCtc`; see `Task`."""

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
        """See `Task`."""
        return self.objective

    def whole(self, step: int) -> bool:
        """Always: the model has one part."""
        return True

    def compile(self) -> None:
        """The encoder in training; clips that are only scored have many shapes."""
        self.objective.encode = torch.compile(self.model.encoder.states, dynamic=False)

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], whole: bool) -> list[str]:
        """Best paths."""
        logits, lengths = self.model(mels)
        blank = self.model.config.blank
        return [best_path(rows, blank, self.tokenizer) for rows in logits.split(lengths)]

    def export(self, out: Path, dtype: torch.dtype) -> Path:
        """In the native layout, norms over the batch folded into the convolutions."""
        model = fold_batch_norm(self.model)
        return export(model, model.config, self.tokenizer, out, dtype=dtype)


def best_path(logits: Tensor, blank: int, tokenizer: Tokenizer) -> str:
    """Text of the best path of one clip."""
    return tokenizer.decode(greedy(logits, blank).ids).strip()
