"""Choosing the next token from its scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auris.backends.base import Choice, best_of

__all__ = ["Choice", "Probe", "Sampling", "chance", "choose"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the best one at temperature 0, else drawn with a seed."""

    temperature: float = 0.0
    seed: int = 0

    def generator(self) -> torch.Generator | None:
        """A source of chance for one request, so that its draws never depend on neighbours."""
        if self.temperature == 0.0:
            return None
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Probe:
    """A question to the scores: how likely one of `ids` is as token number `place` of a text."""

    place: int
    ids: tuple[int, ...]


def choose(
    logits: Tensor, temperatures: list[float], generators: list[torch.Generator | None]
) -> list[Choice]:
    """One token per row.

    Args:
        logits: float32 [B, vocab].
        temperatures: per row; 0 takes the best.
        generators: per row; None where the temperature is 0.
    """
    best = best_of(logits)
    return [
        choice if generator is None else _drawn(scores, choice, temperature, generator)
        for scores, choice, temperature, generator in zip(
            logits, best, temperatures, generators, strict=True
        )
    ]


def _drawn(logits: Tensor, best: Choice, temperature: float, generator: torch.Generator) -> Choice:
    """A token drawn by its scores [vocab], instead of the best one."""
    most = logits[best.token]
    # Scores that are no numbers have no chances; their log-probability, NaN, tells.
    if not bool(most.isfinite()):
        return best
    # Differences to the best in float64: no temperature is too small for them.
    below = (logits - most).cpu().double()
    chances = torch.softmax(below / temperature, dim=-1)
    token = int(torch.multinomial(chances, 1, generator=generator))
    logprob = float(logits[token] - torch.logsumexp(logits, dim=-1))
    return Choice(token, logprob, best.gap)


def chance(logits: Tensor, ids: tuple[int, ...]) -> float:
    """Natural-log probability that the next token is one of `ids`; logits are float32 [vocab]."""
    wanted = torch.logsumexp(logits[list(ids)], dim=-1)
    return min(0.0, float(wanted - torch.logsumexp(logits, dim=-1)))
