"""A lazy order: the best values first, most of which are never computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import TypeVar

Key = TypeVar("Key", bound=tuple[int, ...])
Value = TypeVar("Value")


def best_first(
    limited: Iterable[tuple[float, Key]],
    evaluated: Callable[[Key], Value],
    score: Callable[[Value], float],
) -> Iterator[Value]:
    """Values by their scores, the highest ones first; of equal ones the lowest key.

    A value is computed when its limit is the highest score that is left, and at most once.

    Args:
        limited: the limit of the score of each value, and its key; the highest limits first. No key
            is there twice.
        evaluated: the value of a key.
        score: of a value, at most its limit.
    """
    waiting: list[tuple[float, Key, Value]] = []
    for limit, key in limited:
        while waiting and waiting[0][0] < -limit:
            yield heappop(waiting)[-1]
        value = evaluated(key)
        heappush(waiting, (-score(value), key, value))
    while waiting:
        yield heappop(waiting)[-1]
