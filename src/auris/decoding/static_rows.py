"""Requests that the static step of a backend continues.

The device chooses the tokens of these requests and finds the ends of their texts; this module only
turns its results into steps. They are read one pass behind: while the host reads the results of a
pass, the device is working on the next one.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from auris.backends.base import (
    MOST_PROBED,
    Backend,
    Cache,
    StaticPass,
    StaticStep,
    StaticText,
    TextRules,
    TextStart,
)
from auris.decoding.repetition import LONGEST_PERIOD, repeats_needed
from auris.decoding.requests import Request, Step

if TYPE_CHECKING:
    from auris.decoding.loop import DecodeRow

LOOPS = tuple(period * (repeats_needed(period) - 1) for period in range(1, LONGEST_PERIOD + 1))
"""As of `TextRules`."""


def takes_static_step(request: Request) -> bool:
    """Whether a request is continued by the static step of a backend that has one.

    It alone decides. The static step takes the best token of every pass, one token a pass. A draft
    that was verified while the prompt was read does not count; what is left of it is not used.
    """
    probed = 0 if request.probe is None else len(request.probe.ids)
    plain = request.sampling.temperature == 0.0 and request.scorer is None
    return plain and not request.needs_search and not request.draft and probed <= MOST_PROBED


def new_rows(
    backend: Backend, requests: int, rows: int, capacity: int, stops: Collection[int]
) -> tuple[Cache, StaticRows | None]:
    """A cache, and what continues the requests of the static step if the backend has one.

    Args:
        requests: requests at a time.
        rows: most rows of the cache: a request that is searched has several.
        capacity: positions a row has room for at first.
        stops: ids that end a text.
    """
    rules = TextRules(tuple(sorted(stops)), LOOPS)
    step = backend.static_step(requests, rows, capacity, rules)
    if step is None:
        return backend.new_cache(rows, capacity), None
    return step.cache, StaticRows(step)


class StaticRows:
    """The requests of one static step. When this object is not used any more, the backend gets the
    step back."""

    def __init__(self, step: StaticStep) -> None:
        self._step = step
        self._rows: dict[StaticText, DecodeRow] = {}
        self._texts: dict[DecodeRow, StaticText] = {}
        self._started: StaticPass | None = None
        weakref.finalize(self, step.release)

    def __contains__(self, row: object) -> bool:
        return row in self._texts

    def __len__(self) -> int:
        return len(self._rows)

    def begin(self, rows: Sequence[tuple[DecodeRow, int]]) -> None:
        """Continue requests, of which each has a token or more, in their rows of the cache."""
        if rows:
            texts = [(cache_row, _start(row)) for row, cache_row in rows]
            for (row, _), text in zip(rows, self._step.begin(texts), strict=True):
                self._rows[text] = row
                self._texts[row] = text

    def end(self, row: DecodeRow) -> None:
        """Leave a request, which may be over or not."""
        text = self._texts.pop(row)
        del self._rows[text]
        self._step.end(text)
        if not self._rows:
            self._started = None

    def step(self) -> list[tuple[DecodeRow, Step]]:
        """Start a pass, and read the results of the one before; those that finish leave."""
        began = time.perf_counter()
        read, self._started = self._started, self._step.launch()
        results = {} if read is None else read.results()
        share = (time.perf_counter() - began) / max(len(results), 1)
        steps = []
        for text, result in results.items():
            row = self._rows.get(text)
            if row is None:
                continue
            step = row.record_result(result, share)
            steps.append((row, step))
            if step.finish is not None:
                self.end(row)
        return steps


def _start(row: DecodeRow) -> TextStart:
    probe = () if row.request.probe is None else row.request.probe.ids
    return TextStart(tuple(row.repetition.ids), row.request.max_new_tokens, probe)
