"""Choosing the next token from its scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auris.backends.base import Choice, best_of


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the best one at temperature 0, else sampled with a seed."""

    temperature: float = 0.0
    seed: int = 0

    def generator(self) -> torch.Generator | None:
        """A random generator for one request, so that its samples do not depend on the batch."""
        if self.temperature == 0.0:
            return None
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Probe:
    """Computes how likely one of `ids` is as token number `position` of a text."""

    position: int
    ids: tuple[int, ...]


def choose(
    logits: Tensor, temperatures: list[float], generators: list[torch.Generator | None]
) -> list[Choice]:
    """One token for each row of float32 logits [B, vocab]; rows without generator take the best."""
    best = best_of(logits)
    return [
        choice if generator is None else _sample(scores, choice, temperature, generator)
        for scores, choice, temperature, generator in zip(
            logits, best, temperatures, generators, strict=True
        )
    ]


def _sample(logits: Tensor, best: Choice, temperature: float, generator: torch.Generator) -> Choice:
    """A token sampled from the scores [vocab]."""
    most = logits[best.token]
    # NaN cannot be sampled from; the log-probability is NaN too, which is checked later.
    if not bool(most.isfinite()):
        return best
    # Differences to the best score in float64, so that small temperatures do not overflow.
    below = (logits - most).cpu().double()
    probabilities = torch.softmax(below / temperature, dim=-1)
    token = int(torch.multinomial(probabilities, 1, generator=generator))
    logprob = float(logits[token] - torch.logsumexp(logits, dim=-1))
    return Choice(token, logprob, best.margin)


def ids_logprob(logits: Tensor, ids: tuple[int, ...]) -> float:
    """Natural-log probability that the next token is one of `ids`; logits are float32 [vocab]."""
    selected = torch.logsumexp(logits[list(ids)], dim=-1)
    return min(0.0, float(selected - torch.logsumexp(logits, dim=-1)))
