"""A language model for the search of a speech model, and its weights."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auris.checkpoints.lm_weights import LmWeights, load_lm_weights
from auris.decoding.language_model import LanguageModel
from auris.decoding.language_model_file import load_language_model

CTC_WEIGHTS = LmWeights(0.5, 2.5, beam_size=16)
DECODER_WEIGHTS = LmWeights(0.3, 0.5, beam_size=8)
"""Weights of models without a file of their own: of a CTC head, and of a decoder, which knows much
of what a language model knows."""


@dataclass(frozen=True)
class WeightedLanguageModel:
    """A language model as it is used in a search.

    Attributes:
        model: the language model.
        weights: how much it counts.
        digest: hash of its file.
    """

    model: LanguageModel
    weights: LmWeights
    digest: str

    @classmethod
    def load(cls, path: str | Path, directory: Path, has_decoder: bool) -> WeightedLanguageModel:
        """Load a file, with the weights of a model directory or general ones.

        Raises:
            CheckpointError: the file or the weights are damaged.
        """
        general = DECODER_WEIGHTS if has_decoder else CTC_WEIGHTS
        weights = load_lm_weights(directory) or general
        model = load_language_model(Path(path))
        return cls(model, weights, hashlib.sha256(Path(path).read_bytes()).hexdigest())

    @property
    def values(self) -> dict[str, Any]:
        """What shapes results, as plain JSON values."""
        weights = asdict(self.weights)
        del weights["measured"]
        return {"digest": self.digest, **weights}
