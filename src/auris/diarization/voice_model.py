"""Units of speech to speakers, by a hidden Markov model whose states are speakers.

An embedding is a point in a space in which the points of one speaker have a variance of 1 in each
direction, and speakers differ by known variances. Units of speech follow each other in time, and
the next one is mostly of the same speaker. Speakers without evidence of their own are removed,
so the model also finds their number. Method: Landini et al., "Bayesian HMM clustering of x-vector
sequences (VBx) in speaker diarization" (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

EVIDENCE = 0.2
"""Share of the evidence of a unit that counts, since units that follow each other are alike."""

SPEAKER_COST = 4.0
"""The larger, the more evidence a speaker of its own needs."""

COST_UNITS, COST_GROWTH = 200, 0.6
"""In a recording of more units, the cost grows with this power of their number. Otherwise long
recordings have too many speakers, since every voice changes a little."""

STAYS = 0.9
"""Probability that the next unit is of the same speaker without regard to its sound."""

STARTED = 0.95
"""Probability of the speaker that a unit is given at the beginning."""

LEAST_SHARE = 1e-5
"""Speakers who begin to speak with a lower probability are removed."""

ROUNDS = 20
LEAST_CHANGE = 1e-3
"""Rounds end when no probability changes by more."""


@dataclass(frozen=True)
class VoiceSpace:
    """Where the embeddings of an encoder lie; fitted on its training speakers.

    Attributes:
        mean: of all embeddings, float32 [width].
        axes: directions in which speakers differ most, scaled so that the points of one speaker
            have a variance of 1, float32 [axes, width].
        variances: of the means of speakers in these directions, float32 [axes].
    """

    mean: Floats
    axes: Floats
    variances: Floats

    def points(self, embeddings: Floats) -> Doubles:
        """Embeddings [n, width] as points [n, axes]."""
        return np.asarray((embeddings - self.mean) @ self.axes.T, np.float64)


def inferred(
    points: Doubles, weights: Doubles, variances: Floats, groups: Ints, share: float = 1.0
) -> Doubles:
    """The probability of each speaker for each unit, [units, speakers].

    Args:
        points: of the units in the order of time.
        weights: how much each of them counts, 0 to 1.
        variances: of a `VoiceSpace`.
        groups: the speaker of each unit to begin with.
        share: of the cost of a speaker that counts.
    """
    cost = share * SPEAKER_COST * max(len(points) / COST_UNITS, 1.0) ** COST_GROWTH
    count = int(groups.max()) + 1
    states = np.full((len(points), count), (1 - STARTED) / count)
    states[np.arange(len(points)), groups] += STARTED
    shares = np.full(count, 1 / count)
    spread = points * np.sqrt(variances)
    ratio = EVIDENCE / cost
    for _ in range(ROUNDS):
        weighted = states * weights[:, None]
        precisions = 1 + ratio * weighted.sum(0)[:, None] * variances
        voices = ratio * (weighted.T @ spread) / precisions
        scores = spread @ voices.T - 0.5 * ((1 / precisions + voices**2) @ variances)
        before = states
        states, begins = _smoothed(EVIDENCE * weights[:, None] * scores, shares)
        shares = begins / begins.sum()
        if np.abs(states - before).max() < LEAST_CHANGE:
            break
        present = shares >= LEAST_SHARE
        if not present.all():
            states, shares = states[:, present], shares[present] / shares[present].sum()
            states /= np.maximum(states.sum(1, keepdims=True), 1e-300)
    return states


def _smoothed(scores: Doubles, shares: Doubles) -> tuple[Doubles, Doubles]:
    """Probabilities of the speakers in time, and how often each is expected to begin.

    Args:
        scores: log likelihoods [units, speakers].
        shares: probability that a speaker who begins to speak is this one.
    """
    likely = np.exp(scores - scores.max(1, keepdims=True))
    forward, backward = np.empty_like(likely), np.ones_like(likely)
    expected = shares
    for time, row in enumerate(likely):
        now = expected * row
        forward[time] = now / now.sum()
        expected = STAYS * forward[time] + (1 - STAYS) * shares
    for time in range(len(likely) - 2, -1, -1):
        later = likely[time + 1] * backward[time + 1]
        now = STAYS * later + (1 - STAYS) * (shares @ later)
        backward[time] = now / now.sum()
    states = forward * backward
    states /= states.sum(1, keepdims=True)
    later = likely[1:] * backward[1:]
    reached = (STAYS * forward[:-1] + (1 - STAYS) * shares) * later
    begins = (1 - STAYS) * shares * later / reached.sum(1, keepdims=True)
    return states, states[0] + begins.sum(0)
