"""A language model for the search of a speech model, and its weights."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from auris.checkpoints.hub import bundled_language_models
from auris.checkpoints.lm_weights import LmWeights, load_lm_weights
from auris.decoding.language_model import LanguageModel
from auris.decoding.language_model_file import load_language_model

DEFAULT_LM, NO_LM = "auto", "none"
"""Names that stand for the language model of a model's default search, and for none."""

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
        path: its file.
        by_default: whether it belongs to the default search of the model, so that options which
            exclude a search turn it off.
    """

    model: LanguageModel = field(repr=False)
    weights: LmWeights
    path: Path
    by_default: bool = False

    @cached_property
    def digest(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def values(self) -> dict[str, Any]:
        """What shapes results, as plain JSON values."""
        weights = asdict(self.weights)
        del weights["measured"], weights["lm"]
        return {"digest": self.digest, **weights}


def find_language_model(
    lm: str | Path | None, directory: Path, has_decoder: bool
) -> WeightedLanguageModel | None:
    """The language model of a speech model, with the weights of its directory or general ones.

    Args:
        lm: a file, the name of a bundled language model, "auto" for that of the default search of
            the speech model, or "none" or None for none.
        directory: of the speech model.
        has_decoder: whether the speech model has one.

    Raises:
        CheckpointError: the file or the weights are damaged.
    """
    if lm is None or lm == NO_LM:
        return None
    weights = load_lm_weights(directory)
    by_default = lm == DEFAULT_LM
    if by_default:
        if weights is None or weights.lm is None:
            return None
        lm = weights.lm
    bundled = bundled_language_models().get(str(lm))
    path = bundled or (directory / lm if by_default else Path(lm))
    if weights is None:
        weights = DECODER_WEIGHTS if has_decoder else CTC_WEIGHTS
    named = replace(weights, lm=None if bundled is None and not by_default else str(lm))
    return WeightedLanguageModel(load_language_model(path), named, path, by_default)
