"""Forced prefixes: how likely each one is, and which one a reply begins with.

If a reply has to begin with one of several prefixes, such as the languages of a list, the prefixes
are compared as a whole. Choosing the best token at each step would be wrong: the first token of a
name may be likely and the next one unlikely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from auris.backends.base import Backend, Cache, Choice


@dataclass(frozen=True)
class ForcedPrefix:
    """A prefix and its score.

    Attributes:
        logprob: natural-log probability of all tokens together.
        greedy: whether each token is the best one at its position, so that the model would have
            chosen this prefix without being forced.
    """

    ids: tuple[int, ...]
    logprob: float
    greedy: bool


def given_choice(logits: Tensor, token: int) -> Choice:
    """The choice of a token that is forced; logits are float32 [vocab]."""
    best = logits.topk(2).values
    logprob = float(logits[token] - logits.logsumexp(-1))
    return Choice(token, logprob, float(best[0] - best[1]))


def score_prefixes(
    backend: Backend, cache: Cache, row: int, logits: Tensor, prefixes: Sequence[tuple[int, ...]]
) -> list[ForcedPrefix]:
    """Score prefixes, of at least one token each, in one row; afterwards the row is as before.

    Args:
        logits: float32 [vocab] after the row's last position.
    """
    length = cache.lengths[row]
    scored = []
    for ids in prefixes:
        scores = [logits]
        if len(ids) > 1:
            (inner,) = backend.extend(cache, [ids[:-1]], range(row, row + 1), "all")
            scores += list(inner)
            backend.truncate(cache, row, length)
        choices = [given_choice(one, token) for one, token in zip(scores, ids, strict=True)]
        greedy = all(int(one.argmax()) == token for one, token in zip(scores, ids, strict=True))
        scored.append(ForcedPrefix(ids, math.fsum(choice.logprob for choice in choices), greedy))
    return scored


def choose_prefix(
    candidates: Sequence[ForcedPrefix], allowed: Sequence[ForcedPrefix]
) -> ForcedPrefix:
    """The prefix with which the reply begins: the one that the model would choose by itself, if it
    is one of these, else the most likely candidate. Those that are `allowed` are no candidates."""
    own = next((prefix for prefix in (*candidates, *allowed) if prefix.greedy), None)
    return own or max(candidates, key=lambda prefix: prefix.logprob)
