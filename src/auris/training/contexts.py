"""Contexts for the prompt: words that may be spoken in a recording.

A model that was trained without contexts makes errors with one. These contexts are of the kinds
that people write: lists of words and names of which some are spoken, lists of which none is spoken,
and sentences that are unrelated to the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

MOST_SPOKEN, MOST_OTHERS = 8, 32
"""Words of a list that are spoken, and words that are not."""

KINDS = {"spoken": 0.65, "unspoken": 0.2, "sentence": 0.15}
SEPARATORS = (", ", " ", "\n", "; ")
CAPITALS_SHARE = 0.3
"""Lists written with capitals, as names are, though the text to write has none."""


class ContextSource:
    """Draws random contexts for the texts of a corpus."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._counts = Counter(word for text in texts for word in text.split())
        self._words = sorted(self._counts)

    def draw(self, text: str, rng: np.random.Generator) -> str:
        """A context for a recording in which `text` is spoken; empty where the corpus has no
        words."""
        if not self._words:
            return ""
        kind = rng.choice(list(KINDS), p=list(KINDS.values()))
        if kind == "sentence":
            return str(self._texts[int(rng.integers(len(self._texts)))])
        spoken = self._spoken(text, rng) if kind == "spoken" else []
        # Short lists are as likely as long ones: the logarithm of the length is uniform.
        others = int(MOST_OTHERS ** rng.random()) - (1 if spoken else 0)
        words = spoken + [self._words[i] for i in rng.integers(len(self._words), size=others)]
        if rng.random() < CAPITALS_SHARE:
            words = [word.capitalize() for word in words]
        return str(rng.choice(SEPARATORS)).join(words[i] for i in rng.permutation(len(words)))

    def _spoken(self, text: str, rng: np.random.Generator) -> list[str]:
        """Random words of a text, rarer ones with higher probability."""
        words = sorted(set(text.split()))
        if not words:
            return []
        weights = np.array([self._counts[word] for word in words]).clip(min=1) ** -0.7
        size = min(len(words), int(rng.integers(1, MOST_SPOKEN + 1)))
        chosen = rng.choice(len(words), size, replace=False, p=weights / weights.sum())
        return [words[i] for i in chosen]
