"""Choosing the next token from its scores."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auris.backends.base import Choice, best_of
from auris.decoding.scoring import Candidates, State, Tokens, TokenScorer, scored_candidates

COMPARED_TOKENS = 32
"""Best tokens to which scores from outside the model are added where one token is chosen."""


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


class BestTokens(NamedTuple):
    """The best next tokens of several texts [B, n], with what `Candidates` has of each text."""

    tokens: Tokens
    logprobs: NDArray[np.float32]
    margins: NDArray[np.float32]

    def of(self, row: int) -> Candidates:
        """Those of one text."""
        return Candidates(*(column[row].tolist() for column in self))


def best_tokens(logits: Tensor, count: int) -> BestTokens:
    """The best tokens of every row of float32 logits [B, vocab], at most `count`."""
    values, indices = logits.topk(min(count, logits.shape[-1]), dim=-1)
    total = torch.logsumexp(logits, dim=-1, keepdim=True).cpu().numpy()
    best, tokens = values.cpu().numpy(), indices.cpu().numpy()
    with np.errstate(invalid="ignore"):
        margins = best - best[:, :1]
        if best.shape[1] > 1:
            margins[:, 0] = best[:, 0] - best[:, 1]
        return BestTokens(tokens, best - total, margins)


class ScoredText:
    """The text of one row, token by token, and the scorer that follows it."""

    def __init__(self, scorer: TokenScorer) -> None:
        self._scorer = scorer
        self._state = scorer.start()
        self._following: dict[int, State] = {}

    def choose(self, logits: Tensor, stops: Collection[int]) -> Choice:
        """The token with the best sum of log-probability and score, among those with a high
        log-probability; its margin is that of the sums.

        Args:
            logits: float32 [vocab].
            stops: ids that end a text.
        """
        candidates = best_tokens(logits[None], COMPARED_TOKENS).of(0)
        scored = scored_candidates(self._scorer, self._state, candidates, stops)
        pairs = zip(candidates.logprobs, scored, strict=True)
        sums = [logprob + score for logprob, (score, _) in pairs]
        best = max(range(len(sums)), key=sums.__getitem__)
        others = [total for index, total in enumerate(sums) if index != best]
        token = candidates.tokens[best]
        self._following = {token: scored[best][1]}
        margin = sums[best] - max(others, default=-math.inf)
        return Choice(token, candidates.logprobs[best], margin)

    def add(self, token: int) -> None:
        """Append a token: the chosen one, or one that is forced."""
        if token not in self._following:
            _, self._following[token] = self._scorer.follow(self._state, token, 0.0)
        self._state = self._following[token]
        self._following = {}


def ids_logprob(logits: Tensor, ids: tuple[int, ...]) -> float:
    """Natural-log probability that the next token is one of `ids`; logits are float32 [vocab]."""
    (logprob,) = ids_logprobs(logits[None], ids)
    return logprob


def ids_logprobs(logits: Tensor, ids: tuple[int, ...]) -> list[float]:
    """The same of every row of float32 logits [B, vocab]."""
    selected = torch.logsumexp(logits[:, list(ids)], dim=-1)
    logprobs: list[float] = (selected - torch.logsumexp(logits, dim=-1)).tolist()
    return [min(0.0, logprob) for logprob in logprobs]
