"""How the embeddings of a speaker encoder vary, within one speaker and between speakers.

Diarization needs both to decide whether two stretches of speech are of one speaker (probabilistic
linear discriminant analysis: Ioffe, 2006).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from auris.models.speaker_encoder import VoiceStatistics
from auris.training.speaker_data import UNKNOWN

MOST_CROPS = 1500
MOST_EPOCHS = 4
"""Embeddings of so many crops are measured, or of those of so many epochs."""

EVEN_SHARE = 0.3
"""Share of the mean variance within speakers in that of each direction, since speakers who are not
trained on vary in more directions."""

LEAST_VARIANCE = 1e-6

Doubles = NDArray[np.float64]


def measure(voices: VoiceStatistics, embeddings: Doubles, speakers: NDArray[np.int64]) -> None:
    """Fit the statistics to embeddings [n, width] and the numbers of their speakers.

    They stay zero where fewer than two speakers have two embeddings.
    """
    counted = [
        embeddings[speakers == one]
        for one in np.unique(speakers[speakers != UNKNOWN])
        if (speakers == one).sum() > 1
    ]
    if len(counted) < 2:
        return
    width = embeddings.shape[1]
    inside = np.zeros((width, width))
    for mine in counted:
        apart = mine - mine.mean(0)
        inside += apart.T @ apart
    inside /= sum(len(mine) - 1 for mine in counted)
    even = np.trace(inside) / width * np.eye(width)
    inside = (1 - EVEN_SHARE) * inside + EVEN_SHARE * even
    means = np.stack([mine.mean(0) for mine in counted])
    between = np.cov(means.T) - inside * np.mean([1 / len(mine) for mine in counted])
    lengths, directions = np.linalg.eigh(inside)
    scaled = (directions / np.sqrt(np.maximum(lengths, LEAST_VARIANCE))).T
    variances, turned = np.linalg.eigh(scaled @ between @ scaled.T)
    largest = np.argsort(-variances)[: len(voices.variances)]
    voices.mean.copy_(torch.from_numpy(embeddings.mean(0)))
    voices.axes.copy_(torch.from_numpy(turned[:, largest].T @ scaled))
    voices.variances.copy_(torch.from_numpy(np.maximum(variances[largest], LEAST_VARIANCE)))
