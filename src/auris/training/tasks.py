"""What the training loop needs of a model: its losses, its transcripts and its export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from auris.checkpoints.export import export
from auris.decoding.ctc import greedy
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.models.qwen_asr import QwenAsr
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainedOn
from auris.training.examples import Preprocessor, TrainingBatch
from auris.training.losses import ctc_loss

__all__ = ["CtcTask", "Task", "compiled"]

Encode = Callable[[Sequence[Tensor], Sequence[int]], tuple[list[Tensor], list[int]]]
"""`AudioEncoder.states`: log-mels and numbers of layers to states after each, and lengths."""


class Task(nn.Module):
    """A model with its losses and its way to write text.

    Args:
        model: the model.
        tokenizer: spells the texts.
        depths: numbers of encoder layers whose states are scored by CTC, and their shares in the
            CTC loss; by default all layers.
        frames: see `Preprocessor`.
        aligned: see `Preprocessor`.
    """

    def __init__(
        self,
        model: AutCtc | QwenAsr,
        tokenizer: Tokenizer,
        depths: Mapping[int, float] | None,
        frames: int | None,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        config = model.config
        self.depths = dict(depths or {config.encoder.layers: 1.0})
        self.preprocessor = Preprocessor(
            config.frontend, config.encoder.mel_bins, tokenizer.encode, frames, aligned
        )
        self.compiled: Encode | None = None

    @abstractmethod
    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """`sums` and `counts` of `auris.training.losses.Losses`; `all_parts` whether every part of
        the model is trained yet."""

    @abstractmethod
    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """Texts of clips with their prompts' contexts; `all_parts` as in training."""

    @abstractmethod
    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """Write the model as a model directory."""

    def trains_all_parts(self, step: int) -> bool:
        """Whether every part of the model takes part in step `step` (from 0)."""
        return True

    def check_export(self) -> None:
        """Refuse a model that its layout cannot hold, which need not wait for the end of a run.

        Raises:
            ConfigError: the layout cannot express the model.
        """

    def compile_encoder(self, device: torch.device) -> None:
        """Compile the encoder in training, where its inputs have one shape."""
        self.compiled = compiled(self.model.encoder.states, device)

    def encode(self, mels: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """States after each of the layers of `depths`, and the length of each clip."""
        encode = self.compiled if self.training and self.compiled else self.model.encoder.states
        return encode(mels, list(self.depths))

    def best_paths(self, logits: Tensor, lengths: Sequence[int], blank: int) -> list[str]:
        """Texts of the best paths of clips whose CTC scores stand one after the other."""
        paths = (greedy(rows, blank).ids for rows in logits.split(list(lengths)))
        return [self.tokenizer.decode(ids).strip() for ids in paths]


def compiled(encode: Encode, device: torch.device) -> Encode:
    """An encoder for batches of one shape; on an accelerator that has graphs, as a CUDA graph."""
    mode = None if device.type == "cpu" else "reduce-overhead"
    result: Encode = torch.compile(encode, dynamic=False, mode=mode)
    return result


class CtcTask(Task):
    """Training of an `AutCtc`; for the arguments see `Task`."""

    model: AutCtc

    def __init__(
        self,
        model: AutCtc,
        tokenizer: Tokenizer,
        frames: int | None = None,
        depths: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__(model, tokenizer, depths, frames, aligned=True)

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
        """In the native layout, norms over the batch folded into the convolutions."""
        model = fold_batch_norm(self.model)
        return export(model, model.config, self.tokenizer, out, dtype=dtype)
