"""The beginning that prompts have in common is prefilled once.

A preamble is the part of a prompt before the audio: the system turn with the context. The chunks
of a recording have the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from auris.backends.base import Backend, Cache

WORTH_A_PASS = 64
"""Positions that have to be spared for a preamble to be prefilled in a pass of its own, which reads
all weights once more."""


Prompt = tuple[tuple[int, ...], Sequence[int] | Tensor]
"""Token ids of the preamble of a prompt, and the whole prompt as ids or embeddings [L, hidden]."""


class SharedPreamble:
    """Prefills prompts. Stores the positions of the last preamble that came twice in a row."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ids: tuple[int, ...] = ()
        self._cache: Cache | None = None
        self._last: tuple[int, ...] = ()

    def prefill(self, cache: Cache, rows: Sequence[int], prompts: Sequence[Prompt]) -> list[Tensor]:
        """Append prompts to empty rows, in one pass; returns float32 scores [vocab] behind each."""
        # A prompt that is nothing but a preamble is read as a whole: a pass needs a position.
        prompts = [(ids if len(ids) < len(prompt) else (), prompt) for ids, prompt in prompts]
        self._prefill_most_common(prompts)
        rest = [
            prompt[self._copy_to(cache, row, ids) :]
            for row, (ids, prompt) in zip(rows, prompts, strict=True)
        ]
        scores = self._backend.extend(cache, rest, rows)[:, -1]
        for row, (ids, _) in zip(rows, prompts, strict=True):
            self._store(cache, row, ids)
        return list(scores)

    def _prefill_most_common(self, prompts: Sequence[Prompt]) -> None:
        """Prefill the preamble that most prompts begin with alone, if that is worth a pass."""
        ids, count = Counter(ids for ids, _ in prompts).most_common(1)[0]
        if ids != self._ids and (count - 1) * len(ids) >= WORTH_A_PASS:
            prompt = next(prompt for preamble, prompt in prompts if preamble == ids)
            cache = self._new_cache(ids)
            self._backend.extend(cache, [prompt[: len(ids)]])
            self._ids, self._cache = ids, cache

    def _copy_to(self, cache: Cache, row: int, ids: tuple[int, ...]) -> int:
        """Fill an empty row with a preamble if it is the stored one; returns its length, or 0."""
        if self._cache is None or ids != self._ids:
            return 0
        self._backend.copy_row(self._cache, 0, cache, row, len(ids))
        return len(ids)

    def _store(self, cache: Cache, row: int, ids: tuple[int, ...]) -> None:
        """Store the preamble of a row that was just prefilled, if the row before had the same."""
        if ids and ids == self._last and ids != self._ids:
            own = self._new_cache(ids)
            self._backend.copy_row(cache, row, own, 0, len(ids))
            self._ids, self._cache = ids, own
        self._last = ids

    def _new_cache(self, ids: tuple[int, ...]) -> Cache:
        cache = self._backend.new_cache(1, len(ids))
        self._backend.admit(cache)
        return cache
