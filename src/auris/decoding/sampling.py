"""Choosing the next token from its scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Choice:
    """A chosen token.

    Attributes:
        token: its id.
        logprob: its natural-log probability at temperature 1.
        gap: by how much the best score exceeds the second best; small gaps are ties.
    """

    token: int
    logprob: float
    gap: float


def choose(
    logits: Tensor, temperatures: list[float], generators: list[torch.Generator | None]
) -> list[Choice]:
    """One token per row.

    Args:
        logits: float32 [B, vocab].
        temperatures: per row; 0 takes the best.
        generators: per row; None where the temperature is 0.
    """
    best, places = logits.topk(2, dim=-1)
    tokens = places[:, 0].tolist()
    for row, (temperature, generator) in enumerate(zip(temperatures, generators, strict=True)):
        # Scores that are no numbers have no chances; their log-probability, NaN, tells.
        if generator is not None and bool(best[row, 0].isfinite()):
            # Differences to the best in float64: no temperature is too small for them.
            below = (logits[row] - best[row, 0]).cpu().double()
            chances = torch.softmax(below / temperature, dim=-1)
            tokens[row] = int(torch.multinomial(chances, 1, generator=generator))
    chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    logprobs = (chosen - torch.logsumexp(logits, dim=-1)).tolist()
    gaps = (best[:, 0] - best[:, 1]).tolist()
    return [
        Choice(token, logprob, gap)
        for token, logprob, gap in zip(tokens, logprobs, gaps, strict=True)
    ]


def chance(logits: Tensor, ids: tuple[int, ...]) -> float:
    """Natural-log probability that the next token is one of `ids`; logits are float32 [vocab]."""
    wanted = torch.logsumexp(logits[list(ids)], dim=-1)
    return min(0.0, float(wanted - torch.logsumexp(logits, dim=-1)))
