"""The forced aligner: a Qwen3-ASR model whose head scores times at the marks in its prompt.

Source: Qwen3-ASR technical report (arXiv 2601.21337) and `Qwen3ASRForTokenClassification` of
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auris.config import AlignerConfig
from auris.models.cache import UncachedRows
from auris.models.qwen_asr import Prompted


class Aligner(Prompted):
    """Encoder, projector, decoder and a classifier of times; the decoder runs once."""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__(config)
        self.config = config
        self.head = nn.Linear(config.decoder.hidden, config.classes, bias=config.head_bias)

    def forward(self, ids: Sequence[int], states: Tensor) -> Tensor:
        """Scores [marks, classes] of every time at every mark.

        Args:
            ids: token ids of a prompt, with as many audio slots as there are states.
            states: encoder states [N, d_model].
        """
        embedded = self.embed(ids, states)[None]
        rows = UncachedRows.of([len(ids)], "right", embedded.device)
        normed = self.decoder.states(embedded, rows)[0]
        marks = torch.tensor(ids, device=normed.device) == self.config.timestamp_token_id
        scores: Tensor = self.head(normed[marks])
        return scores
