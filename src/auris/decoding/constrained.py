"""Beginnings of a text: how likely each of some is, and which of them is taken.

A model that may say only one of a few things first, such as a language out of a list, is not asked
for its best token but for its best beginning as a whole: tokens of a name that begins likely may go
on unlikely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from auris.backends.base import Backend, Cache
from auris.decoding.sampling import Choice

__all__ = ["ForcedPrefix", "choose_prefix", "given_choice", "score_prefixes"]


@dataclass(frozen=True)
class ForcedPrefix:
    """A beginning and what the model thinks of it.

    Attributes:
        ids: its tokens.
        logprob: natural-log probability of all of them in a row.
        normal: whether each of them is the model's best token at its place, so that it would have
            begun so by itself.
    """

    ids: tuple[int, ...]
    logprob: float
    normal: bool


def given_choice(logits: Tensor, token: int) -> Choice:
    """What it means to say a token that is given.

    Args:
        logits: float32 [vocab].
        token: its id.
    """
    best = logits.topk(2).values
    logprob = float(logits[token] - logits.logsumexp(-1))
    return Choice(token, logprob, float(best[0] - best[1]))


def score_prefixes(
    backend: Backend, cache: Cache, row: int, logits: Tensor, openings: Sequence[tuple[int, ...]]
) -> list[ForcedPrefix]:
    """Score beginnings of one row, which is left as it was.

    Args:
        backend: runs the model.
        cache: holds the row.
        row: its index.
        logits: float32 [vocab] after the row's last position.
        openings: token ids, at least one each.
    """
    length = cache.lengths[row]
    scored = []
    for ids in openings:
        scores = [logits]
        if len(ids) > 1:
            (inner,) = backend.extend(cache, [ids[:-1]], range(row, row + 1), "all")
            scores += list(inner)
            backend.truncate(cache, row, length)
        choices = [given_choice(one, token) for one, token in zip(scores, ids, strict=True)]
        normal = all(int(one.argmax()) == token for one, token in zip(scores, ids, strict=True))
        scored.append(ForcedPrefix(ids, math.fsum(choice.logprob for choice in choices), normal))
    return scored


def choose_prefix(chosen: Sequence[ForcedPrefix], kept: Sequence[ForcedPrefix]) -> ForcedPrefix:
    """The beginning that is taken.

    Args:
        chosen: beginnings to choose from, at least one.
        kept: others that the model may say by itself, but that are not chosen in place of what it
            would have said.

    Returns:
        the model's own beginning if it is one of these, else the likeliest to choose from.
    """
    own = next((opening for opening in (*chosen, *kept) if opening.normal), None)
    return own or max(chosen, key=lambda opening: opening.logprob)
