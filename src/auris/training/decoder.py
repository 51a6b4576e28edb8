"""Training of a decoder behind a trained encoder, in stages, with texts that have no audio.

A part that is frozen gets no gradients, so that not even weight decay changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import TEXT_TAG, TURN_END
from auris.text.tokenizer import Tokenizer
from auris.training.asr import AsrTask, dialogues
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.examples import TrainingBatch


class DecoderTask(AsrTask):
    """Training of an encoder, a projector and a decoder that were joined.

    Args:
        fresh: whether the decoder begins with random weights. A frozen decoder of random weights
            teaches the projector nothing, so the CTC loss alone trains it then.

    Attributes:
        frozen: the parts that the step in progress does not train.
    """

    def __init__(
        self,
        model: QwenAsr,
        tokenizer: Tokenizer,
        recipe: DecoderRecipe,
        head: nn.Linear | None,
        fresh: bool,
    ) -> None:
        super().__init__(model, tokenizer, recipe, head)
        self.fresh = fresh
        self.encoder_from_step, self.encoder_rate = recipe.encoder_from_step, recipe.encoder_rate
        self.frozen: list[nn.Module] = []

    def begin_step(self, step: int) -> None:
        """Freeze the parts that are not trained yet; a frozen encoder has no dropout."""
        model = self.model
        firsts = {model.decoder: self.decoder_from_step, model.encoder: self.encoder_from_step}
        self.frozen = [part for part, first in firsts.items() if step < first]
        for part in self.frozen:
            part.eval()

    def rate_share(self, name: str) -> float:
        """The encoder has a lower rate."""
        return self.encoder_rate if name.startswith("model.encoder.") else 1.0

    def trains_all_parts(self, step: int) -> bool:
        """From the first step on, if the decoder was trained before."""
        return not self.fresh or super().trains_all_parts(step)

    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """As of `AsrTask`; tokens of texts without audio count as those of replies do."""
        # Texts train the decoder alone.
        texts = batch.texts if all_parts and self.model.decoder not in self.frozen else []
        losses = []
        with _without_gradients(self.frozen if self.training else ()):
            if batch.mels:
                losses.append(super().forward(batch, all_parts))
            if texts:
                losses.append(self.text_loss(texts))
            if not losses:
                # The loss of a step needs a gradient, of zeros here.
                zeros = 0.0 * self.model.projector.out.weight.float().flatten()[:2]
                losses.append((zeros, zeros.detach()))
        sums, counts = zip(*losses, strict=True)
        return sum(sums[1:], sums[0]), sum(counts[1:], counts[0])

    def text_loss(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Sums and counts, as `forward`, of texts that no audio precedes."""
        tag, end = self.tokenizer.id(TEXT_TAG), self.tokenizer.id(TURN_END)
        rows = dialogues([[tag]] * len(texts), [[*text, end] for text in texts], end, "right")
        rows = rows.to(self.model.decoder.embed.weight.device)
        loss, tokens = self.token_loss(rows, self.model.decoder.embed(rows.ids))
        loss, nothing = (1.0 - self.ctc_weight) * loss, torch.zeros_like(tokens)
        return torch.stack([nothing, loss]), torch.stack([nothing, tokens])


@contextmanager
def _without_gradients(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Compute so that no gradient reaches the weights of some parts; it passes through them."""
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
