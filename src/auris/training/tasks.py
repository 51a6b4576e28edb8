"""What the training loop needs of a model: its losses, its transcripts and its export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from auris.checkpoints.export import export
from auris.decoding.ctc import greedy
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.models.qwen_asr import QwenAsr
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainedOn
from auris.training.examples import Preprocessor, TrainingBatch
from auris.training.recipes import RecognizerRecipe, ShapedRecipe

Encode = Callable[[Sequence[Tensor], Sequence[int]], tuple[list[Tensor], list[int]]]
"""`AudioEncoder.states`: log-mels and numbers of layers to states after each, and lengths."""


@dataclass(frozen=True)
class Losses:
    """What a process contributes to the loss of a batch.

    Attributes:
        sums: float32 [K], sum of each kind of loss over units or tokens, times its weight.
        counts: float32 [K], numbers of these units or tokens.

    The loss is the sum of sums / counts, both first added over all processes, so that it does not
    depend on how a batch is divided among processes.
    """

    sums: Tensor
    counts: Tensor

    @property
    def total(self) -> Tensor:
        """The loss of these sums over these counts."""
        return (self.sums / self.counts.clamp(min=1.0)).sum()


def ctc_loss(
    logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Negative log-likelihood, in float32 whatever the logits' type.

    Args:
        logits: [N, units + 1], clips one after the other.
        lengths: frames of each clip, N in all.
        targets: unit ids of each clip; the path of an empty one has only blanks.

    Returns:
        A scalar: the sum over the clips. Infinite when a target does not fit its frames.
    """
    # In bfloat16 a log-probability of -8 already has steps of 0.06, so the softmax is float32 too.
    rows = torch.split(logits.float().log_softmax(-1), list(lengths))
    counts = torch.tensor([len(target) for target in targets])
    joined = torch.tensor([unit for target in targets for unit in target], dtype=torch.long)
    total: Tensor = F.ctc_loss(
        pad_sequence(list(rows)),
        joined.to(logits.device),
        torch.tensor(lengths),
        counts,
        blank=blank,
        reduction="sum",
    )
    return total


class TrainedModel(nn.Module):
    """A model with its losses: what the training loop needs of it."""

    @abstractmethod
    def forward(self, batch: Any, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """`sums` and `counts` of `Losses`; `all_parts`: whether every part of the model is trained
        already."""

    def trains_all_parts(self, step: int) -> bool:
        """Whether every part of the model takes part in step `step` (from 0)."""
        return True

    def begin_step(self, step: int) -> None:
        """Prepare for step `step` (from 0)."""

    def rate_share(self, name: str) -> float:
        """The share of the learning rate with which a weight is trained."""
        return 1.0


class Task(TrainedModel):
    """A model with its losses and its transcription.

    Args:
        aligned: whether CTC has to align texts to audio, see `Preprocessor`.

    Attributes:
        depths: numbers of encoder layers whose states are scored by CTC, and their shares in the
            CTC loss; by default only the last layer.
    """

    def __init__(
        self,
        model: AutCtc | QwenAsr,
        tokenizer: Tokenizer,
        recipe: RecognizerRecipe,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        config = model.config
        self.depths = {config.encoder.layers: 1.0}
        if isinstance(recipe, ShapedRecipe):
            self.depths = recipe.depths
        frames, bins = recipe.padded_frames, config.encoder.mel_bins
        self.preprocessor = Preprocessor(config.frontend, bins, tokenizer.encode, frames, aligned)
        self.compiled: Encode | None = None

    @abstractmethod
    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """`sums` and `counts` of `Losses`; `all_parts`: whether every part of the model is trained
        already."""

    @abstractmethod
    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """Texts of clips with their prompts' contexts; `all_parts` as in training."""

    @abstractmethod
    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """Write the model as a model directory."""

    def compile_encoder(self, device: torch.device) -> None:
        """Compile the encoder for training, where its inputs have one shape."""
        self.compiled = compiled(self.model.encoder.states, device)

    def encode(self, mels: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """States after each of the layers of `depths`, and the length of each clip."""
        encode = self.compiled if self.training and self.compiled else self.model.encoder.states
        return encode(mels, list(self.depths))

    def best_paths(self, logits: Tensor, lengths: Sequence[int], blank: int) -> list[str]:
        """Texts of the best paths of clips whose CTC scores follow each other."""
        paths = (greedy(rows, blank).ids for rows in logits.split(list(lengths)))
        return [self.tokenizer.decode(ids).strip() for ids in paths]


def compiled(encode: Encode, device: torch.device) -> Encode:
    """An encoder for batches of one shape; on an accelerator that has graphs, as a CUDA graph."""
    mode = None if device.type == "cpu" else "reduce-overhead"
    result: Encode = torch.compile(encode, dynamic=False, mode=mode)
    return result


class CtcTask(Task):
    """Training of an `AutCtc`."""

    model: AutCtc

    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood [1], and units [1]."""
        states, lengths = self.encode(batch.mels)
        blank = self.model.config.blank
        losses = [
            share * ctc_loss(self.model.head(one), lengths, batch.targets, blank)
            for one, share in zip(states, self.depths.values(), strict=True)
        ]
        units = float(sum(map(len, batch.targets)))
        return torch.stack([sum(losses[1:], losses[0])]), losses[0].new_tensor([units])

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """Best paths."""
        logits, lengths = self.model(mels)
        return self.best_paths(logits, lengths, self.model.config.blank)

    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """In the native layout, batch norms folded into the convolutions."""
        model = fold_batch_norm(self.model)
        return export(model, model.config, self.tokenizer, out, dtype=dtype)
